/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * From bytes to a flow. Parsers read and judge lengths, nothing else: no map, no verdict.
 */
#ifndef TPROXY_PARSE_H
#define TPROXY_PARSE_H

#include <linux/if_ether.h>

#include "icmp.h"
#include "ipv4.h"
#include "ipv6.h"
#include "packet.h"

enum vlan {
	VLAN_ID = 0xfff,            /* IEEE 802.1Q: the rest of a tag is its priority */
};

/*
 * The kernel takes one tag from a frame before this hook, and those that follow
 * a priority tag behind it: check_vlan_id in __netif_receive_skb_core(), since
 * Linux 5.5.  So two priority tags would hide a packet of this interface.
 */
static __always_inline enum parsed parse_tag(struct __sk_buff *skb, __u32 offset)
{
	__be16 tag;

	if (bpf_skb_load_bytes(skb, offset, &tag, sizeof(tag)))
		return PARSED_MALFORMED;
	return host16(tag) & VLAN_ID ? PARSED_TAGGED : PARSED_MALFORMED;
}

/* The whole of a packet that begins with its IP header at `offset`. */
static __always_inline enum parsed parse_packet(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	enum parsed parsed;

	if (skb->protocol == host16(ETH_P_IP))
		parsed = parse_ipv4(skb, offset, flow);
	else if (skb->protocol == host16(ETH_P_IPV6))
		parsed = parse_ipv6(skb, offset, flow);
	else if (skb->protocol == host16(ETH_P_8021Q) || skb->protocol == host16(ETH_P_8021AD))
		return parse_tag(skb, offset);
	else
		return PARSED_OTHER;
	if (parsed != PARSED_OTHER)
		return parsed;
	if (has_ports(flow->protocol))
		return parse_ports(skb, flow);
	if (!flow->ipv6 && flow->protocol == IPPROTO_ICMP)
		return parse_icmpv4(skb, flow);
	if (flow->ipv6 && flow->protocol == IPPROTO_ICMPV6)
		return parse_icmpv6(skb, flow);
	return PARSED_OTHER;
}

#endif
