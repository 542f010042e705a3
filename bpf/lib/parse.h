/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * From the bytes of a packet to its kind and its flow.
 */
#ifndef TPROXY_PARSE_H
#define TPROXY_PARSE_H

#include <linux/if_ether.h>

#include "icmp.h"
#include "ipv4.h"
#include "ipv6.h"
#include "vlan.h"

/* Parse a packet with its IP header at `offset`. */
static __always_inline enum pkt_kind parse_packet(struct __sk_buff *skb, __u32 offset,
						  struct flow *flow)
{
	enum pkt_kind kind;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		kind = parse_ipv4(skb, offset, flow);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		kind = parse_ipv6(skb, offset, flow);
	else if (skb->protocol == bpf_htons(ETH_P_8021Q) ||
		 skb->protocol == bpf_htons(ETH_P_8021AD))
		return parse_vlan_tag(skb, offset);
	else
		return PKT_LINK;
	if (kind == PKT_MALFORMED)
		return kind;
	flow->fragment = forget(skb, flow->fragment);
	flow->fragment_id = forget(skb, flow->fragment_id);
	if (!flow->ipv6 && flow->protocol == IPPROTO_IGMP && !flow->fragment &&
	    igmp_is_valid(skb, flow))
		return PKT_CONTROL;
	/* Each fragment of such a protocol names all that a rule can ask for. */
	if (is_portless(flow->protocol)) {
		flow->dport = flow->protocol;
		flow->fragment = FRAGMENT_NONE;
		return PKT_PORTLESS;
	}
	if (kind == PKT_FRAGMENT)
		return kind;
	if (has_ports(flow->protocol))
		return parse_ports(skb, flow);
	if (!flow->ipv6 && flow->protocol == IPPROTO_ICMP)
		return parse_icmpv4(skb, flow);
	if (flow->ipv6 && flow->protocol == IPPROTO_ICMPV6)
		return parse_icmpv6(skb, flow);
	return PKT_OTHER;
}

#endif
