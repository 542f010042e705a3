/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * ICMP and ICMPv6: the messages that a host needs, and the flow that an error
 * quotes.
 */
#ifndef TPROXY_ICMP_H
#define TPROXY_ICMP_H

#include <linux/icmp.h>
#include <linux/icmpv6.h>

#include "ipv4.h"
#include "ipv6.h"

/* Neighbour discovery, RFC 4861; names of include/net/ndisc.h. The types between are its others. */
enum ndisc_type {
	NDISC_ROUTER_SOLICITATION = 133,
	NDISC_REDIRECT = 137,
};

/* RFC 2236, section 2.1; RFC 3376, section 4. */
enum igmp_type {
	IGMP_QUERY = 0x11,
	IGMP_V1_REPORT = 0x12,
	IGMP_V2_REPORT = 0x16,
	IGMP_LEAVE = 0x17,
	IGMP_V3_REPORT = 0x22,
};

enum icmp_wire {
	ICMP_HLEN = 8,	    /* the part that all messages have */
	ND_HOP_LIMIT = 255, /* sent on this link: RFC 4861, sections 6.1, 7.1, 8.1 */
	MLD_HOP_LIMIT = 1,  /* RFC 2710, section 3 */
	IGMP_TTL = 1,
};

static __always_inline bool is_ndisc(__u8 type)
{
	return type >= NDISC_ROUTER_SOLICITATION && type <= NDISC_REDIRECT;
}

/* A host without an address sends MLD from ::, RFC 3810, section 5.2.13. */
static __always_inline bool mld_is_valid(const struct flow *flow)
{
	return flow->hop_limit == MLD_HOP_LIMIT &&
	       (addr_is_link_local(&flow->saddr) || addr_is_any(&flow->saddr));
}

/* The first bytes of a message; only an echo has the identifier. */
struct icmp_start {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 identifier;
};

static __always_inline bool is_echo_request(const struct flow *flow, __u8 type)
{
	if (flow->ipv6)
		return flow->protocol == IPPROTO_ICMPV6 && type == ICMPV6_ECHO_REQUEST;
	return flow->protocol == IPPROTO_ICMP && type == ICMP_ECHO;
}

/* An error that quotes an echo request: the flow is that of the reply, as parse_quoted_ports() has it. */
static __always_inline enum pkt_kind parse_quoted_echo(struct __sk_buff *skb, __u32 offset,
						       struct flow *flow)
{
	struct icmp_start quoted;

	if (!load_bytes(skb, flow, offset, &quoted, sizeof(quoted)) ||
	    !is_echo_request(flow, quoted.type))
		return PKT_OTHER;
	flow->dport = bpf_ntohs(quoted.identifier);
	return PKT_ECHO_ERROR;
}

/*
 * Read the quoted ports and exchange them: the flow is that of the answers to the quoted
 * packet.
 */
static __always_inline enum pkt_kind parse_quoted_ports(struct __sk_buff *skb, __u32 offset,
							struct flow *flow)
{
	__be16 ports[2];

	if (is_portless(flow->protocol)) {
		flow->dport = flow->protocol;
		return PKT_ICMP_ERROR;
	}
	if (!has_ports(flow->protocol))
		return parse_quoted_echo(skb, offset, flow);
	if (!load_bytes(skb, flow, offset, ports, sizeof(ports)))
		return PKT_OTHER;
	flow->dport = bpf_ntohs(ports[0]);
	flow->sport = bpf_ntohs(ports[1]);
	return PKT_ICMP_ERROR;
}

/*
 * An error goes to the source of the quoted packet (RFC 1122, section 3.2.2).
 * An error to another destination is forged. Of quoted fragments only the first
 * one has ports.
 */
static __always_inline enum pkt_kind parse_quoted_ipv4(struct __sk_buff *skb, struct flow *flow)
{
	__u32 offset = flow->l4_off + ICMP_HLEN;
	struct iphdr ip;

	if (!load_bytes(skb, flow, offset, &ip, sizeof(ip)))
		return PKT_OTHER;
	if (ip.version != 4 || ip.ihl < 5 || ip.frag_off & bpf_htons(IP_OFFSET) ||
	    ip.saddr != flow->daddr.addr32[3])
		return PKT_OTHER;
	addr_set_v4mapped(&flow->saddr, ip.daddr);
	flow->protocol = ip.protocol;
	return parse_quoted_ports(skb, offset + ip.ihl * 4, flow);
}

static __always_inline enum pkt_kind parse_quoted_ipv6(struct __sk_buff *skb, struct flow *flow)
{
	/*
	 * Aligned as union ip_addr is, since addr_equal() compares its addresses in
	 * words of 64 bits: the verifier wants stack accesses to be aligned.
	 */
	struct ipv6hdr ip __attribute__((aligned(sizeof(__u64))));
	enum pkt_kind kind = PKT_OTHER;

	if (!load_bytes(skb, flow, flow->l4_off + ICMP_HLEN, &ip, sizeof(ip)))
		return PKT_OTHER;
	if (ip.version != 6 || !addr_equal((const union ip_addr *)&ip.saddr, &flow->daddr))
		return PKT_OTHER;
	__builtin_memcpy(&flow->saddr, &ip.daddr, sizeof(flow->saddr));
	flow->protocol = ip.nexthdr;
	flow->l4_off += ICMP_HLEN + sizeof(ip);
	if (is_ext_hdr(flow->protocol))
		kind = skip_ext_hdrs(skb, flow);
	flow->fragment = FRAGMENT_NONE; /* the quoted packet can be a first one */
	if (kind != PKT_OTHER)
		return PKT_OTHER;
	return parse_quoted_ports(skb, flow->l4_off, flow);
}

/* Read the start of the message; false if the packet ends within the header. */
static __always_inline bool load_start(struct __sk_buff *skb, const struct flow *flow,
				       struct icmp_start *start)
{
	return flow->l4_off + ICMP_HLEN <= flow->l3_end &&
	       !bpf_skb_load_bytes(skb, flow->l4_off, start, sizeof(*start));
}

static __always_inline enum pkt_kind parse_echo_reply(struct flow *flow,
						      const struct icmp_start *start)
{
	flow->dport = bpf_ntohs(start->identifier);
	return PKT_CONTROL;
}

static __always_inline enum pkt_kind parse_echo(struct flow *flow, const struct icmp_start *start)
{
	flow->sport = bpf_ntohs(start->identifier);
	return PKT_ECHO;
}

/*
 * Queries, reports and leave messages of IGMPv1 to IGMPv3, with TTL 1 (RFC 3376,
 * section 4). All others are of a protocol without ports, which rules can name.
 */
static __always_inline bool igmp_is_valid(struct __sk_buff *skb, const struct flow *flow)
{
	const __u64 types = 1ULL << IGMP_QUERY | 1ULL << IGMP_V1_REPORT | 1ULL << IGMP_V2_REPORT |
			    1ULL << IGMP_LEAVE | 1ULL << IGMP_V3_REPORT;
	struct icmp_start start;

	return flow->hop_limit == IGMP_TTL && load_start(skb, flow, &start) && start.type < 64 &&
	       types >> start.type & 1;
}

/*
 * In a first fragment only an echo counts: errors are short (RFC 1812, section
 * 4.3.2.3; RFC 4443, section 2.4), and no host takes ND in fragments (RFC 6980).
 */
static __always_inline enum pkt_kind parse_icmpv4(struct __sk_buff *skb, struct flow *flow)
{
	struct icmp_start start;

	if (!load_start(skb, flow, &start))
		return header_is_cut(flow);
	if (start.type == ICMP_ECHOREPLY)
		return parse_echo_reply(flow, &start);
	if (start.type == ICMP_ECHO)
		return parse_echo(flow, &start);
	if (flow->fragment)
		return PKT_OTHER;
	switch (start.type) {
	case ICMP_DEST_UNREACH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		return parse_quoted_ipv4(skb, flow);
	default:
		return PKT_OTHER;
	}
}

static __always_inline enum pkt_kind parse_icmpv6(struct __sk_buff *skb, struct flow *flow)
{
	struct icmp_start start;
	__u8 type;

	if (!load_start(skb, flow, &start))
		return header_is_cut(flow);
	type = start.type;
	if (type == ICMPV6_ECHO_REQUEST)
		return parse_echo(flow, &start);
	if (type == ICMPV6_ECHO_REPLY)
		return parse_echo_reply(flow, &start);
	if (flow->fragment)
		return PKT_OTHER;
	/* Between these two: ICMPV6_PKT_TOOBIG and ICMPV6_TIME_EXCEED. */
	if (type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB)
		return parse_quoted_ipv6(skb, flow);
	if (is_ndisc(type))
		return flow->hop_limit == ND_HOP_LIMIT ? PKT_CONTROL : PKT_OTHER;
	if ((type >= ICMPV6_MGM_QUERY && type <= ICMPV6_MGM_REDUCTION) ||
	    type == ICMPV6_MLD2_REPORT)
		return mld_is_valid(flow) ? PKT_CONTROL : PKT_OTHER;
	return PKT_OTHER;
}

#endif
