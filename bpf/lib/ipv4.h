/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * IPv4.
 */
#ifndef TPROXY_IPV4_H
#define TPROXY_IPV4_H

#include <linux/ip.h>

#include "packet.h"

/* Flags and offset in the header: RFC 791; names of include/net/ip.h. */
enum ipv4_frag_off {
	IP_MF = 0x2000,
	IP_OFFSET = 0x1fff,
};

static __always_inline enum pkt_kind parse_ipv4(struct __sk_buff *skb, __u32 offset,
						struct flow *flow)
{
	struct iphdr *ip = pull_header(skb, offset, sizeof(*ip));
	__u32 header_length, length;

	if (!ip)
		return PKT_MALFORMED;
	header_length = ip->ihl * 4;
	if (ip->version != 4 || header_length < sizeof(*ip))
		return PKT_MALFORMED;
	length = ip_length(bpf_ntohs(ip->tot_len), skb->len - offset);
	if (length < header_length || offset + length > skb->len)
		return PKT_MALFORMED;
	addr_set_v4mapped(&flow->saddr, ip->saddr);
	addr_set_v4mapped(&flow->daddr, ip->daddr);
	flow->protocol = ip->protocol;
	flow->hop_limit = ip->ttl;
	flow->l4_off = offset + header_length;
	flow->l3_end = offset + length;
	if (!(ip->frag_off & bpf_htons(IP_MF | IP_OFFSET)))
		return PKT_OTHER;
	flow->fragment_id = ip->id;
	flow->fragment = FRAGMENT_FIRST;
	if (!(ip->frag_off & bpf_htons(IP_OFFSET)))
		return PKT_OTHER;
	flow->fragment = FRAGMENT_LATER;
	return PKT_FRAGMENT;
}

#endif
