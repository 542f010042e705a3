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
	EXT_HDRS_MAX = 8,             /* IPv6 extension headers that are looked into */
};

/* What every IPv6 extension header begins with; `rest` is the offset in a fragment header. */
struct ipv6_ext_hdr {
	__u8 nexthdr;
	__u8 hdrlen;
	__be16 frag_off;
};

static __always_inline int is_ext_hdr(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
	       next == IPPROTO_AH || next == IPPROTO_DSTOPTS;
}

/* Bytes of an extension header: RFC 8200 counts in 8 behind the first, RFC 4302 (AH) in 4 behind the second. */
static __always_inline __u32 ext_hdr_len(__u8 kind, __u8 length)
{
	if (kind == IPPROTO_FRAGMENT)
		return 8;
	return kind == IPPROTO_AH ? (length + 2) * 4 : (length + 1) * 8;
}

/* Headers that go on in the padding end beyond the packet. */
static __always_inline int headers_complete(const struct flow *flow)
{
	return flow->l4_off <= flow->l3_end && flow->l4_off < EXT_HDRS_END;
}

/*
 * Go behind the extension headers, up to a fragment that has one of these bits:
 * a fragment of one piece (RFC 6946) is none.
 */
static __always_inline enum pkt_kind skip_ext_hdrs(struct __sk_buff *skb, struct flow *flow, __u16 fragment)
{
	struct ipv6_ext_hdr ext;
	__u8 kind;
	int i;

	for (i = 0; i < EXT_HDRS_MAX && is_ext_hdr(flow->protocol); i++) {
		kind = flow->protocol;
		if (bpf_skb_load_bytes(skb, flow->l4_off, &ext, sizeof(ext)))
			return PKT_MALFORMED;
		flow->protocol = ext.nexthdr;
		flow->l4_off += ext_hdr_len(kind, ext.hdrlen);
		if (kind == IPPROTO_FRAGMENT && ext.frag_off & host16(fragment))
			return headers_complete(flow) ? PKT_FRAGMENT : PKT_MALFORMED;
	}
	return headers_complete(flow) && !is_ext_hdr(flow->protocol) ? PKT_OTHER : PKT_MALFORMED;
}

static __always_inline enum pkt_kind parse_ipv6(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	struct ipv6hdr *ip = pull_header(skb, offset, sizeof(*ip));

	if (!ip || ip->version != 6)
		return PKT_MALFORMED;
	flow->l4_off = offset + sizeof(*ip);
	flow->l3_end = flow->l4_off + ip_length(host16(ip->payload_len), skb->len - flow->l4_off);
	if (flow->l3_end > skb->len)
		return PKT_MALFORMED;
	__builtin_memcpy(&flow->saddr, &ip->saddr, sizeof(flow->saddr));
	__builtin_memcpy(&flow->daddr, &ip->daddr, sizeof(flow->daddr));
	flow->protocol = ip->nexthdr;
	flow->hop_limit = ip->hop_limit;
	flow->ipv6 = 1;
	if (addr_is_v4mapped(&flow->saddr) || addr_is_v4mapped(&flow->daddr))
		return PKT_MALFORMED;
	return is_ext_hdr(flow->protocol) ? skip_ext_hdrs(skb, flow, IPV6_FRAGMENT) : PKT_OTHER;
}

#endif
