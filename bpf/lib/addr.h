/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Addresses of both families: 16 bytes in network order, IPv4 mapped. Without
 * helper calls, so that a host compiler can test it in both byte orders.
 */
#ifndef TPROXY_ADDR_H
#define TPROXY_ADDR_H

#include "../abi.h"
#include "compiler.h"
#include "endian.h"

union ip_addr {
	__u8 addr8[16];
	__be16 addr16[8];
	__be32 addr32[4];
	__be64 addr64[2];
};

enum {
	V4MAPPED_PREFIX_LEN = 96, /* of ::ffff:0:0/96, RFC 4291, section 2.5.5.2 */
};

static __always_inline void addr_set_v4mapped(union ip_addr *addr, __be32 ipv4)
{
	addr->addr64[0] = 0;
	addr->addr32[2] = bpf_htonl(0xffff);
	addr->addr32[3] = ipv4;
}

/* IPv6 sockets name an IPv4 peer so. The address is not for the wire: RFC 4291, section 2.5.5.2. */
static __always_inline bool addr_is_v4mapped(const union ip_addr *addr)
{
	return !addr->addr64[0] && addr->addr32[2] == bpf_htonl(0xffff);
}

static __always_inline bool addr_equal(const union ip_addr *a, const union ip_addr *b)
{
	return a->addr64[1] == b->addr64[1] && a->addr64[0] == b->addr64[0];
}

/* :: */
static __always_inline bool addr_is_any(const union ip_addr *addr)
{
	return !addr->addr64[0] && !addr->addr64[1];
}

/* fe80::/10 */
static __always_inline bool addr_is_link_local(const union ip_addr *addr)
{
	return addr->addr8[0] == 0xfe && (addr->addr8[1] & 0xc0) == 0x80;
}

/* Return 1 if the value is 0, else 0, without a branch. */
static __always_inline __u32 is_zero(__u64 value)
{
	value |= -value;
	barrier_var(value);
	return !(value >> 63);
}

/*
 * Return ADDRESS_GROUP for 224.0.0.0/4, 255.255.255.255 and ff00::/8, with
 * ADDRESS_SPECIAL for these and for 0.0.0.0/8, 127.0.0.0/8, :: and ::1; else 0.
 * Without branches, since the verifier would follow each of them to the end.
 */
static __always_inline __u32 addr_kind(const union ip_addr *addr)
{
	__u64 high = bpf_be64_to_cpu(addr->addr64[0]), low = bpf_be64_to_cpu(addr->addr64[1]);
	__u32 ipv4 = low, mapped = is_zero(high | (low >> 32 ^ 0xffff));
	__u32 group = (mapped & (is_zero(ipv4 >> 28 ^ 0xe) | is_zero(ipv4 ^ 0xffffffff))) |
		      is_zero(high >> 56 ^ 0xff);
	__u32 unique = (mapped & (is_zero(ipv4 >> 24) | is_zero(ipv4 >> 24 ^ 127))) |
		       is_zero(high | low >> 1);

	return group * ADDRESS_GROUP | (group | unique) * ADDRESS_SPECIAL;
}

/* Return value >> bits, also for 64 bits, by which no shift can go at once. */
static __always_inline __u64 shift_right(__u64 value, __u32 bits)
{
	return value >> bits / 2 >> (bits - bits / 2);
}

/*
 * Return 1 if the first `length` bits of the address, 0 to 128, are those of the
 * prefix, else 0. Without branches, since a loop asks it: the verifier would follow
 * each of them in each round.
 */
static __always_inline __u32 prefix_contains(const __u8 *prefix, __u32 length,
					     const union ip_addr *addr)
{
	const union ip_addr *network = (const void *)prefix;
	__u64 high = bpf_be64_to_cpu(network->addr64[0] ^ addr->addr64[0]);
	__u64 low = bpf_be64_to_cpu(network->addr64[1] ^ addr->addr64[1]);
	__s64 beyond = (__s64)length - 64, is_short = beyond >> 63; /* -1 below 64 bits */

	barrier_var(is_short);
	return is_zero(shift_right(high, -(beyond & is_short)) |
		       shift_right(low, 64 - (beyond & ~is_short)));
}

#endif
