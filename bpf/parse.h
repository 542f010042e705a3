/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * From bytes to a flow.  Parsers read and judge lengths, nothing else: no map,
 * no verdict.  Each returns a PARSED_ value.
 */
#ifndef TPROXY_PARSE_H
#define TPROXY_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "types.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

union address {
	tp_u8 byte[16];
	tp_u32 word[4];
	tp_u64 half[2];
};

/* Ports are in host order, addresses in network order. */
struct flow {
	union address source;
	union address destination;
	tp_u16 source_port;
	tp_u16 port;
	tp_u8 protocol;
	tp_u32 end;         /* of what the IP header calls the packet; a short frame is padded behind it */
};

enum parsed {
	PARSED_FLOW,        /* TCP or UDP: the flow is whole */
	PARSED_OTHER,       /* a sound packet of another protocol */
	PARSED_FRAGMENT,    /* addresses only: its ports cannot be trusted */
	PARSED_MALFORMED,
};

enum wire {
	IPV4_FRAGMENT = 0x3fff,     /* more fragments, or an offset: RFC 791 */
	IPV4_LENGTH_MAX = 0xffff,
};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define host16(value) __builtin_bswap16(value)
#define host32(value) __builtin_bswap32(value)
#else
#define host16(value) (value)
#define host32(value) (value)
#endif

static __always_inline void map_ipv4(union address *address, tp_u32 ipv4)
{
	address->half[0] = 0;
	address->word[2] = host32(0xffff);
	address->word[3] = ipv4;
}

/* The `length` bytes at `offset`, or NULL when the packet ends before them. */
static __always_inline void *header(struct __sk_buff *skb, tp_u32 offset, tp_u32 length)
{
	void *start = (void *)(long)skb->data + offset;

	if (start + length <= (void *)(long)skb->data_end)
		return start;
	/* It may lie in a page beyond the linear area: netif_receive_skb() promises the link header only. */
	if (bpf_skb_pull_data(skb, offset + length))
		return 0;
	start = (void *)(long)skb->data + offset;
	return start + length <= (void *)(long)skb->data_end ? start : 0;
}

static __always_inline enum parsed parse_ports(struct __sk_buff *skb, tp_u32 offset, struct flow *flow)
{
	tp_u32 length = flow->protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);
	struct udphdr *ports;

	if (flow->protocol != IPPROTO_TCP && flow->protocol != IPPROTO_UDP)
		return PARSED_OTHER;
	if (offset + length > flow->end)
		return PARSED_MALFORMED;
	/* Both protocols begin with the two ports: RFC 768, RFC 9293. */
	ports = header(skb, offset, length);
	if (!ports)
		return PARSED_MALFORMED;
	flow->source_port = host16(ports->source);
	flow->port = host16(ports->dest);
	return PARSED_FLOW;
}

/*
 * A packet of more than 64 KiB (BIG TCP, Linux 6.3) says total length 0: the
 * kernel then takes the length of the buffer, see iph_totlen().
 */
static __always_inline tp_u32 ipv4_length(tp_u32 total, tp_u32 present)
{
	return !total && present > IPV4_LENGTH_MAX ? present : total;
}

static __always_inline enum parsed parse_ipv4(struct __sk_buff *skb, tp_u32 offset, struct flow *flow)
{
	struct iphdr *ip = header(skb, offset, sizeof(*ip));
	tp_u32 header_length, length;

	if (!ip)
		return PARSED_MALFORMED;
	header_length = ip->ihl * 4;
	if (ip->version != 4 || header_length < sizeof(*ip))
		return PARSED_MALFORMED;
	length = ipv4_length(host16(ip->tot_len), skb->len - offset);
	if (length < header_length || offset + length > skb->len)
		return PARSED_MALFORMED;
	map_ipv4(&flow->source, ip->saddr);
	map_ipv4(&flow->destination, ip->daddr);
	flow->protocol = ip->protocol;
	flow->end = offset + length;
	if (ip->frag_off & host16(IPV4_FRAGMENT))
		return PARSED_FRAGMENT;
	return parse_ports(skb, offset + header_length, flow);
}

#endif
