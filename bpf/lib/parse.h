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
	VLAN_VID_MASK = 0xfff,            /* IEEE 802.1Q: the rest of a tag is its priority */
};

/*
 * The kernel takes one tag from a frame before this hook, and those that follow
 * a priority tag behind it: check_vlan_id in __netif_receive_skb_core(), since
 * Linux 5.5.  So two priority tags would hide a packet of this interface.
 */
static __always_inline enum pkt_kind parse_vlan_tag(struct __sk_buff *skb, __u32 offset)
{
	__be16 tag;

	if (bpf_skb_load_bytes(skb, offset, &tag, sizeof(tag)))
		return PKT_MALFORMED;
	return host16(tag) & VLAN_VID_MASK ? PKT_TAGGED : PKT_MALFORMED;
}

/* The whole of a packet that begins with its IP header at `offset`. */
static __always_inline enum pkt_kind parse_packet(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	enum pkt_kind kind;

	if (skb->protocol == host16(ETH_P_IP))
		kind = parse_ipv4(skb, offset, flow);
	else if (skb->protocol == host16(ETH_P_IPV6))
		kind = parse_ipv6(skb, offset, flow);
	else if (skb->protocol == host16(ETH_P_8021Q) || skb->protocol == host16(ETH_P_8021AD))
		return parse_vlan_tag(skb, offset);
	else
		return PKT_OTHER;
	if (kind != PKT_OTHER)
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
