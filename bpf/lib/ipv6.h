/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * IPv6 and its extension headers.
 */
#ifndef TPROXY_IPV6_H
#define TPROXY_IPV6_H

#include <linux/ipv6.h>

#include "packet.h"

/* Flag and offset in a fragment header: RFC 8200, section 4.5; names of include/net/ipv6.h. */
enum ipv6_frag_off {
	IP6_MF = 0x0001,
	IP6_OFFSET = 0xfff8,
};

/* In a routing header, the byte of frag_off that counts the addresses left: RFC 8200, section 4.4. */
enum ipv6_routing {
	SEGMENTS_LEFT = 0x00ff,
};

enum ipv6_limits {
	EXT_HDRS_MAX = 8, /* extension headers that the parser skips */
};

/* The first bytes of each extension header; the last two members are those of a fragment header. */
struct ipv6_ext_hdr {
	__u8 nexthdr;
	__u8 hdrlen;
	__be16 frag_off;
	__be32 id;
};

/* RFC 8200 counts units of 8 bytes after the first 8. A fragment header has no length. */
static __always_inline __u32 ext_hdr_len(__u8 type, __u8 hdrlen)
{
	return type == IPPROTO_FRAGMENT ? 8 : (hdrlen + 1) * 8;
}

/* False if the headers continue in the padding: they then end beyond the packet. */
static __always_inline bool headers_complete(const struct flow *flow)
{
	return flow->l4_off <= flow->l3_end && flow->l4_off < L4_OFF_END;
}

/*
 * Skip the extension headers. Stop at a fragment header with an offset. A first
 * fragment has all headers (RFC 7112), and no second fragment header. A packet whose
 * fragment header says neither is whole (atomic fragment, RFC 6946).
 */
static __always_inline enum pkt_kind skip_ext_hdrs(struct __sk_buff *skb, struct flow *flow)
{
	struct ipv6_ext_hdr ext;
	__u8 type;
	int i;

	/* Linux 5.10 and 6.1 refuse the loop that the compiler makes of it ("back-edge"). */
#pragma unroll
	for (i = 0; i < EXT_HDRS_MAX && is_ext_hdr(flow->protocol); i++) {
		type = flow->protocol;
		if (bpf_skb_load_bytes(skb, flow->l4_off, &ext, sizeof(ext)))
			return PKT_MALFORMED;
		flow->protocol = ext.nexthdr;
		flow->l4_off += ext_hdr_len(type, ext.hdrlen);
		/* Without a branch: the verifier would follow both sides from each round. */
		flow->has_next_hop |= is_zero(type ^ IPPROTO_ROUTING) &
				      (is_zero(ext.frag_off & bpf_htons(SEGMENTS_LEFT)) ^ 1);
		if (type != IPPROTO_FRAGMENT)
			continue;
		if (flow->fragment)
			return PKT_MALFORMED;
		if (!(ext.frag_off & bpf_htons(IP6_MF | IP6_OFFSET)))
			continue;
		flow->fragment_id = ext.id;
		flow->fragment = FRAGMENT_FIRST;
		if (!(ext.frag_off & bpf_htons(IP6_OFFSET)))
			continue;
		flow->fragment = FRAGMENT_LATER;
		return headers_complete(flow) ? PKT_FRAGMENT : PKT_MALFORMED;
	}
	return headers_complete(flow) && !is_ext_hdr(flow->protocol) ? PKT_OTHER : PKT_MALFORMED;
}

static __always_inline enum pkt_kind parse_ipv6(struct __sk_buff *skb, __u32 offset,
						struct flow *flow)
{
	struct ipv6hdr *ip = pull_header(skb, offset, sizeof(*ip));

	if (!ip || ip->version != 6)
		return PKT_MALFORMED;
	flow->l4_off = offset + sizeof(*ip);
	flow->l3_end =
		flow->l4_off + ip_length(bpf_ntohs(ip->payload_len), skb->len - flow->l4_off);
	if (flow->l3_end > skb->len)
		return PKT_MALFORMED;
	__builtin_memcpy(&flow->saddr, &ip->saddr, sizeof(flow->saddr));
	__builtin_memcpy(&flow->daddr, &ip->daddr, sizeof(flow->daddr));
	flow->protocol = ip->nexthdr;
	flow->hop_limit = ip->hop_limit;
	flow->ipv6 = 1;
	if (addr_is_v4mapped(&flow->saddr) || addr_is_v4mapped(&flow->daddr))
		return PKT_MALFORMED;
	if (!is_ext_hdr(flow->protocol))
		return PKT_OTHER;
	return skip_ext_hdrs(skb, flow);
}

#endif
