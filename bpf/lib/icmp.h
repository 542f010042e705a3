/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * ICMP and ICMPv6: which messages a host needs, and which flow an error quotes.
 */
#ifndef TPROXY_ICMP_H
#define TPROXY_ICMP_H

#include "ipv4.h"
#include "ipv6.h"
#include "packet.h"

/* RFC 792 */
enum icmp_type {
	ICMP_ECHO_REPLY = 0,
	ICMP_UNREACHABLE = 3,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER = 12,
};

/* RFC 4443, 2710, 3810, 4861 */
enum icmpv6_type {
	ICMPV6_UNREACHABLE = 1,
	ICMPV6_PARAMETER = 4,       /* 2 is Packet Too Big, 3 Time Exceeded */
	ICMPV6_ECHO = 128,
	ICMPV6_ECHO_REPLY = 129,
	ICMPV6_MLD_QUERY = 130,
	ICMPV6_MLD_DONE = 132,
	ICMPV6_ROUTER_SOLICITATION = 133,
	ICMPV6_REDIRECT = 137,      /* between: router advertisement, neighbour solicitation and advertisement */
	ICMPV6_MLD2_REPORT = 143,
};

enum icmp_wire {
	ICMP_HLEN = 8,
	ND_HOP_LIMIT = 255,         /* RFC 4861, section 6.1, 7.1, 8.1: it came from no further than the link */
	MLD_HOP_LIMIT = 1,          /* RFC 2710, section 3 */
};

/* An MLD message before the host has an address comes from ::, RFC 3810, section 5.2.13. */
static __always_inline int mld_is_valid(const struct flow *flow)
{
	return flow->hop_limit == MLD_HOP_LIMIT && (addr_is_link_local(&flow->saddr) || addr_is_any(&flow->saddr));
}

/* The quoted ports turned round: the flow of which the quoted packet was an answer. */
static __always_inline enum pkt_kind parse_quoted_ports(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	__be16 ports[2];

	if (!has_ports(flow->protocol) || !load_bytes(skb, flow, offset, ports, sizeof(ports)))
		return PKT_OTHER;
	flow->dport = host16(ports[0]);
	flow->sport = host16(ports[1]);
	return PKT_ICMP_ERROR;
}

/*
 * An error goes to whom the quoted packet came from (RFC 1122, section 3.2.2);
 * another one is a lie.  Of fragments the first one has the ports.
 */
static __always_inline enum pkt_kind parse_quoted_ipv4(struct __sk_buff *skb, struct flow *flow)
{
	__u32 offset = flow->l4_off + ICMP_HLEN;
	struct iphdr ip;

	if (!load_bytes(skb, flow, offset, &ip, sizeof(ip)))
		return PKT_OTHER;
	if (ip.version != 4 || ip.ihl < 5 || ip.frag_off & host16(IPV4_OFFSET) || ip.saddr != flow->daddr.addr32[3])
		return PKT_OTHER;
	set_v4mapped(&flow->saddr, ip.daddr);
	flow->protocol = ip.protocol;
	return parse_quoted_ports(skb, offset + ip.ihl * 4, flow);
}

static __always_inline enum pkt_kind parse_quoted_ipv6(struct __sk_buff *skb, struct flow *flow)
{
	/* As union address is, in whose words its addresses are compared: a stack access must be aligned. */
	struct ipv6hdr ip __attribute__((aligned(sizeof(__u64))));

	if (!load_bytes(skb, flow, flow->l4_off + ICMP_HLEN, &ip, sizeof(ip)))
		return PKT_OTHER;
	if (ip.version != 6 || !addr_equal((const union ip_addr *)&ip.saddr, &flow->daddr))
		return PKT_OTHER;
	__builtin_memcpy(&flow->saddr, &ip.daddr, sizeof(flow->saddr));
	flow->protocol = ip.nexthdr;
	flow->l4_off += ICMP_HLEN + sizeof(ip);
	if (is_ext_hdr(flow->protocol) && skip_ext_hdrs(skb, flow, IPV6_OFFSET) != PKT_OTHER)
		return PKT_OTHER;
	return parse_quoted_ports(skb, flow->l4_off, flow);
}

/* What kind of message it is; false when its header is not whole. */
static __always_inline int load_type(struct __sk_buff *skb, const struct flow *flow, __u8 *type)
{
	return flow->l4_off + ICMP_HLEN <= flow->l3_end && !bpf_skb_load_bytes(skb, flow->l4_off, type, sizeof(*type));
}

static __always_inline enum pkt_kind parse_icmpv4(struct __sk_buff *skb, struct flow *flow)
{
	__u8 type;

	if (!load_type(skb, flow, &type))
		return PKT_MALFORMED;
	switch (type) {
	case ICMP_ECHO_REPLY:
		return PKT_CONTROL;
	case ICMP_ECHO:
		return PKT_ECHO;
	case ICMP_UNREACHABLE:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER:
		return parse_quoted_ipv4(skb, flow);
	default:
		return PKT_OTHER;
	}
}

static __always_inline enum pkt_kind parse_icmpv6(struct __sk_buff *skb, struct flow *flow)
{
	__u8 type;

	if (!load_type(skb, flow, &type))
		return PKT_MALFORMED;
	if (type >= ICMPV6_UNREACHABLE && type <= ICMPV6_PARAMETER)
		return parse_quoted_ipv6(skb, flow);
	if (type == ICMPV6_ECHO)
		return PKT_ECHO;
	if (type == ICMPV6_ECHO_REPLY)
		return PKT_CONTROL;
	if (type >= ICMPV6_ROUTER_SOLICITATION && type <= ICMPV6_REDIRECT)
		return flow->hop_limit == ND_HOP_LIMIT ? PKT_CONTROL : PKT_OTHER;
	if ((type >= ICMPV6_MLD_QUERY && type <= ICMPV6_MLD_DONE) || type == ICMPV6_MLD2_REPORT)
		return mld_is_valid(flow) ? PKT_CONTROL : PKT_OTHER;
	return PKT_OTHER;
}

#endif
