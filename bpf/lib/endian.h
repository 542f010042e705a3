/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Byte order.
 */
#ifndef TPROXY_ENDIAN_H
#define TPROXY_ENDIAN_H

#include <linux/types.h>

#include "compiler.h"

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define host16(value) __builtin_bswap16(value)
#define host32(value) __builtin_bswap32(value)
#else
#define host16(value) (value)
#define host32(value) (value)
#endif

static __always_inline __u64 be64_to_cpu(__u64 value)
{
	return (__u64)host32((__u32)value) << 32 | host32((__u32)(value >> 32));
}

#endif
