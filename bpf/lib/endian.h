/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Byte order, under the names of libbpf's bpf_endian.h. BCC declares functions
 * of the same names, which swap on big-endian machines as well
 * (src/cc/export/helpers.h, BCC 0.26). The macros take precedence.
 */
#ifndef TPROXY_ENDIAN_H
#define TPROXY_ENDIAN_H

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohl(x) __builtin_bswap32(x)
#define bpf_htonl(x) __builtin_bswap32(x)
#define bpf_be64_to_cpu(x) __builtin_bswap64(x)
#else
#define bpf_ntohs(x) (x)
#define bpf_htons(x) (x)
#define bpf_ntohl(x) (x)
#define bpf_htonl(x) (x)
#define bpf_be64_to_cpu(x) (x)
#endif

#endif
