/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * IPv6 and its extension headers.
 */
#ifndef TPROXY_IPV6_H
#define TPROXY_IPV6_H

#include <linux/ipv6.h>

#include "packet.h"

enum ipv6_wire {
	IPV6_FRAGMENT = 0xfff9,     /* the same: RFC 8200, section 4.5 */
	IPV6_OFFSET = 0xfff8,
	EXTENSIONS = 8,             /* IPv6 extension headers that are looked into */
};

/* What every IPv6 extension header begins with; `rest` is the offset in a fragment header. */
struct extension {
	__u8 next;
	__u8 length;
	__be16 rest;
};

static __always_inline int is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
	       next == IPPROTO_AH || next == IPPROTO_DSTOPTS;
}

/* Bytes of an extension header: RFC 8200 counts in 8 behind the first, RFC 4302 (AH) in 4 behind the second. */
static __always_inline __u32 extension_bytes(__u8 kind, __u8 length)
{
	if (kind == IPPROTO_FRAGMENT)
		return 8;
	return kind == IPPROTO_AH ? (length + 2) * 4 : (length + 1) * 8;
}

/* Headers that go on in the padding end beyond the packet. */
static __always_inline int ends_well(const struct flow *flow)
{
	return flow->payload <= flow->end && flow->payload < EXTENSIONS_END;
}

/*
 * Go behind the extension headers, up to a fragment that has one of these bits:
 * a fragment of one piece (RFC 6946) is none.
 */
static __always_inline enum parsed skip_extensions(struct __sk_buff *skb, struct flow *flow, __u16 fragment)
{
	struct extension extension;
	__u8 kind;
	int i;

	for (i = 0; i < EXTENSIONS && is_extension(flow->protocol); i++) {
		kind = flow->protocol;
		if (bpf_skb_load_bytes(skb, flow->payload, &extension, sizeof(extension)))
			return PARSED_MALFORMED;
		flow->protocol = extension.next;
		flow->payload += extension_bytes(kind, extension.length);
		if (kind == IPPROTO_FRAGMENT && extension.rest & host16(fragment))
			return ends_well(flow) ? PARSED_FRAGMENT : PARSED_MALFORMED;
	}
	return ends_well(flow) && !is_extension(flow->protocol) ? PARSED_OTHER : PARSED_MALFORMED;
}

static __always_inline enum parsed parse_ipv6(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	struct ipv6hdr *ip = header(skb, offset, sizeof(*ip));

	if (!ip || ip->version != 6)
		return PARSED_MALFORMED;
	flow->payload = offset + sizeof(*ip);
	flow->end = flow->payload + true_length(host16(ip->payload_len), skb->len - flow->payload);
	if (flow->end > skb->len)
		return PARSED_MALFORMED;
	__builtin_memcpy(&flow->source, &ip->saddr, sizeof(flow->source));
	__builtin_memcpy(&flow->destination, &ip->daddr, sizeof(flow->destination));
	flow->protocol = ip->nexthdr;
	flow->hop_limit = ip->hop_limit;
	flow->ipv6 = 1;
	if (is_mapped(&flow->source) || is_mapped(&flow->destination))
		return PARSED_MALFORMED;
	return is_extension(flow->protocol) ? skip_extensions(skb, flow, IPV6_FRAGMENT) : PARSED_OTHER;
}

#endif
