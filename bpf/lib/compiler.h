/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * What the compiler is told.
 */
#ifndef TPROXY_COMPILER_H
#define TPROXY_COMPILER_H

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* Hide a value's origin from the compiler. */
#define barrier_var(value) asm volatile("" : "+r"(value))

#endif
