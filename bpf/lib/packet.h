/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The flow that a packet belongs to, and access to its bytes.
 */
#ifndef TPROXY_PACKET_H
#define TPROXY_PACKET_H

#include <linux/in.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>

#include "compiler.h"
#include "endian.h"

union address {
	__u8 byte[16];
	__be16 part[8];
	__u32 word[4];
	__u64 half[2];
};

/* Ports are in host order, addresses in network order. */
struct flow {
	union address source;
	union address destination;
	__u16 source_port;
	__u16 port;
	__u8 protocol;
	__u8 ipv6;
	__u8 hop_limit;
	__u32 payload;     /* offset of what follows the IP headers */
	__u32 end;         /* of what the IP header calls the packet; a short frame is padded behind it */
};

enum parsed {
	PARSED_FLOW,        /* TCP or UDP: the flow is whole */
	PARSED_QUOTE,       /* an ICMP error: the flow that it quotes, as its answers would come in */
	PARSED_ECHO,        /* an ICMP echo request */
	PARSED_CONTROL,     /* ICMP that a host needs: echo reply, sound ND and MLD */
	PARSED_OTHER,       /* a sound packet of another kind */
	PARSED_FRAGMENT,    /* addresses only: its ports cannot be trusted */
	PARSED_TAGGED,      /* a frame of a VLAN, whose tag is still in it */
	PARSED_MALFORMED,
};

enum wire {
	LENGTH_MAX = 0xffff,
	EXTENSIONS_END = 2048,      /* and the offset where they must have ended */
};

static __always_inline void map_ipv4(union address *address, __u32 ipv4)
{
	address->half[0] = 0;
	address->word[2] = host32(0xffff);
	address->word[3] = ipv4;
}

static __always_inline int is_equal(const union address *one, const union address *other)
{
	return one->half[1] == other->half[1] && one->half[0] == other->half[0];
}

/* An IPv4 peer as IPv6 sockets name it; such an address is not for the wire: RFC 4291, section 2.5.5.2. */
static __always_inline int is_mapped(const union address *address)
{
	return !address->half[0] && address->word[2] == host32(0xffff);
}

/* fe80::/10 */
static __always_inline int is_link_local(const union address *address)
{
	return address->byte[0] == 0xfe && (address->byte[1] & 0xc0) == 0x80;
}

static __always_inline int is_unspecified(const union address *address)
{
	return !address->half[0] && !address->half[1];
}

/* The `length` bytes at `offset`, or NULL when the packet ends before them. */
static __always_inline void *header(struct __sk_buff *skb, __u32 offset, __u32 length)
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

/* Copy `length` bytes at `offset`; false when the packet, not the padding behind it, ends before them. */
static __always_inline int load(struct __sk_buff *skb, const struct flow *flow, __u32 offset, void *to, __u32 length)
{
	return offset + length <= flow->end && !bpf_skb_load_bytes(skb, offset, to, length);
}

static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

/* Both protocols begin with the two ports: RFC 768, RFC 9293. */
static __always_inline enum parsed parse_ports(struct __sk_buff *skb, struct flow *flow)
{
	__u32 length = flow->protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);
	__u32 offset = flow->payload;
	struct udphdr *ports;

	if (offset + length > flow->end)
		return PARSED_MALFORMED;
	/* The compiler knows that the offset is small, and drops the mask; the verifier, after a spill, does not. */
	OPAQUE(offset);
	ports = header(skb, offset & (EXTENSIONS_END - 1), length);
	if (!ports)
		return PARSED_MALFORMED;
	flow->source_port = host16(ports->source);
	flow->port = host16(ports->dest);
	return PARSED_FLOW;
}

/*
 * A packet of more than 64 KiB (BIG TCP: IPv6 since Linux 5.19, IPv4 since 6.3)
 * says length 0: the kernel then takes the length of the buffer, see
 * iph_totlen() and ipv6_hopopt_jumbo_remove().
 */
static __always_inline __u32 true_length(__u32 said, __u32 present)
{
	return !said && present > LENGTH_MAX ? present : said;
}

#endif
