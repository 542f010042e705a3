/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The flow that a packet belongs to, and access to the bytes of the packet.
 *
 * Parsers check lengths and read fields. They access no map and give no
 * verdict. Each returns the kind of the packet.
 */
#ifndef TPROXY_PACKET_H
#define TPROXY_PACKET_H

#include <linux/tcp.h>
#include <linux/udp.h>

#include "addr.h"
#include "protocol.h"

/*
 * Ports are in host order, addresses in network order. A protocol without ports has its
 * number in place of the destination port, as the rules in the image have.
 */
struct flow {
	union ip_addr saddr;
	union ip_addr daddr;
	__u16 sport;
	__u16 dport;
	__u8 protocol;
	__u8 ipv6;
	__u8 hop_limit;
	__u8 fragment;	   /* enum fragment */
	__u8 has_next_hop; /* 1: a routing header or a source route leads to a further address */
	__u32 fragment_id;
	__u32 l4_off; /* offset of the header after the IP headers */
	/* end of the packet by its IP header; a short frame has padding after it */
	__u32 l3_end;
};

/* Whether the packet is a part of a datagram; each fragment of a protocol without ports is none. */
enum fragment {
	FRAGMENT_NONE,
	FRAGMENT_FIRST, /* with its whole transport header: its kind is that of the datagram */
	FRAGMENT_LATER, /* without any: PKT_FRAGMENT */
};

enum pkt_kind {
	PKT_FLOW,	/* TCP or UDP with ports */
	PKT_PORTLESS,	/* a protocol without ports, whole or a fragment */
	PKT_ICMP_ERROR, /* an ICMP error; the flow is that of answers to the quoted packet */
	PKT_ECHO_ERROR, /* an ICMP error that quotes an echo request; the flow is that of its reply */
	PKT_ECHO,	/* an ICMP echo request; its identifier is the source port */
	PKT_CONTROL,	/* ICMP that a host needs: echo reply, valid ND, MLD and IGMP */
	PKT_LINK,	/* a frame that is neither IPv4 nor IPv6 */
	PKT_OTHER,	/* a valid packet of another kind */
	PKT_FRAGMENT, /* addresses and protocol only: a fragment without a whole transport header */
	PKT_TAGGED,   /* a frame of a VLAN that still has its tag */
	PKT_MALFORMED,
};

enum packet_limits {
	IP_MAX_MTU = 0xffff, /* include/net/ip.h */
	/* exclusive upper limit for the offset of the layer 4 header */
	L4_OFF_END = 2048,
};

/* Return the `length` bytes at `offset`, or NULL if the packet ends before them. */
static __always_inline void *pull_header(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	void *start = (void *)(long)skb->data + offset;

	if (start + length <= (void *)(long)skb->data_end)
		return start;
	/* The bytes can lie in a page: netif_receive_skb() guarantees only a linear link header. */
	if (bpf_skb_pull_data(skb, offset + length))
		return NULL;
	start = (void *)(long)skb->data + offset;
	return start + length <= (void *)(long)skb->data_end ? start : NULL;
}

/* Copy `length` bytes at `offset`; false if the packet ends before them, padding not counted. */
static __always_inline bool load_bytes(struct __sk_buff *skb, const struct flow *flow, __u32 offset,
				       void *to, __u32 length)
{
	return offset + length <= flow->l3_end && !bpf_skb_load_bytes(skb, offset, to, length);
}

/*
 * A packet of more than 64 KiB (BIG TCP: IPv6 since Linux 5.19, IPv4 since 6.3)
 * has length 0 in its header. The kernel then takes the length of the buffer,
 * see iph_totlen() and ipv6_hopopt_jumbo_remove().
 */
static __always_inline __u32 ip_length(__u32 in_header, __u32 in_buffer)
{
	return !in_header && in_buffer > IP_MAX_MTU ? in_buffer : in_header;
}

/*
 * Return the value, of which the verifier knows nothing from here on: it does not
 * follow what goes through the control block of a packet. So it merges the states
 * of kinds, families and protocols before the lookups, which are most of its work
 * (docs/BENCHMARKS.md). The word keeps its content for later programs.
 */
static __always_inline __u32 forget(struct __sk_buff *skb, __u32 value)
{
	volatile __u32 *word;
	__u32 kept;

	/* So that the compiler keeps no pointer into the context, which the verifier refuses. */
	barrier_var(skb);
	word = &skb->cb[4];
	kept = *word;

	*word = value;
	value = *word;
	*word = kept;
	return value;
}

/* The kind of a packet with a part of its transport header: the rest can be in the next fragment. */
static __always_inline enum pkt_kind header_is_cut(struct flow *flow)
{
	if (!flow->fragment)
		return PKT_MALFORMED;
	flow->fragment = FRAGMENT_NONE;
	return PKT_FRAGMENT;
}

/* Both protocols begin with the two ports: RFC 768, RFC 9293. */
static __always_inline enum pkt_kind parse_ports(struct __sk_buff *skb, struct flow *flow)
{
	__u32 length =
		flow->protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);
	__u32 offset = flow->l4_off;
	struct udphdr *ports;

	if (offset + length > flow->l3_end)
		return header_is_cut(flow);
	/*
	 * The compiler knows that the offset is small and drops the mask. The
	 * verifier does not know it after a spill.
	 */
	barrier_var(offset);
	ports = pull_header(skb, offset & (L4_OFF_END - 1), length);
	if (!ports)
		return PKT_MALFORMED;
	flow->sport = bpf_ntohs(ports->source);
	flow->dport = bpf_ntohs(ports->dest);
	return PKT_FLOW;
}

#endif
