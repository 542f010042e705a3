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

union ip_addr {
	__u8 addr8[16];
	__be16 addr16[8];
	__u32 addr32[4];
	__u64 addr64[2];
};

/* Ports are in host order, addresses in network order. */
struct flow {
	union ip_addr saddr;
	union ip_addr daddr;
	__u16 sport;
	__u16 dport;
	__u8 protocol;
	__u8 ipv6;
	__u8 hop_limit;
	__u32 l4_off;     /* offset of what follows the IP headers */
	__u32 l3_end;         /* of what the IP header calls the packet; a short frame is padded behind it */
};

enum pkt_kind {
	PKT_FLOW,        /* TCP or UDP: the flow is whole */
	PKT_ICMP_ERROR,       /* an ICMP error: the flow that it quotes, as its answers would come in */
	PKT_ECHO,        /* an ICMP echo request */
	PKT_CONTROL,     /* ICMP that a host needs: echo reply, sound ND and MLD */
	PKT_OTHER,       /* a sound packet of another kind */
	PKT_FRAGMENT,    /* addresses only: its ports cannot be trusted */
	PKT_TAGGED,      /* a frame of a VLAN, whose tag is still in it */
	PKT_MALFORMED,
};

enum wire {
	IP_MAX_MTU = 0xffff,
	EXT_HDRS_END = 2048,      /* and the offset where they must have ended */
};

static __always_inline void set_v4mapped(union ip_addr *address, __u32 ipv4)
{
	address->addr64[0] = 0;
	address->addr32[2] = host32(0xffff);
	address->addr32[3] = ipv4;
}

static __always_inline int addr_equal(const union ip_addr *one, const union ip_addr *other)
{
	return one->addr64[1] == other->addr64[1] && one->addr64[0] == other->addr64[0];
}

/* An IPv4 peer as IPv6 sockets name it; such an address is not for the wire: RFC 4291, section 2.5.5.2. */
static __always_inline int addr_is_v4mapped(const union ip_addr *address)
{
	return !address->addr64[0] && address->addr32[2] == host32(0xffff);
}

/* fe80::/10 */
static __always_inline int addr_is_link_local(const union ip_addr *address)
{
	return address->addr8[0] == 0xfe && (address->addr8[1] & 0xc0) == 0x80;
}

static __always_inline int addr_is_any(const union ip_addr *address)
{
	return !address->addr64[0] && !address->addr64[1];
}

/* The `length` bytes at `offset`, or NULL when the packet ends before them. */
static __always_inline void *pull_header(struct __sk_buff *skb, __u32 offset, __u32 length)
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
static __always_inline int load_bytes(struct __sk_buff *skb, const struct flow *flow, __u32 offset, void *to, __u32 length)
{
	return offset + length <= flow->l3_end && !bpf_skb_load_bytes(skb, offset, to, length);
}

static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

/* Both protocols begin with the two ports: RFC 768, RFC 9293. */
static __always_inline enum pkt_kind parse_ports(struct __sk_buff *skb, struct flow *flow)
{
	__u32 length = flow->protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);
	__u32 offset = flow->l4_off;
	struct udphdr *ports;

	if (offset + length > flow->l3_end)
		return PKT_MALFORMED;
	/* The compiler knows that the offset is small, and drops the mask; the verifier, after a spill, does not. */
	barrier_var(offset);
	ports = pull_header(skb, offset & (EXT_HDRS_END - 1), length);
	if (!ports)
		return PKT_MALFORMED;
	flow->sport = host16(ports->source);
	flow->dport = host16(ports->dest);
	return PKT_FLOW;
}

/*
 * A packet of more than 64 KiB (BIG TCP: IPv6 since Linux 5.19, IPv4 since 6.3)
 * says length 0: the kernel then takes the length of the buffer, see
 * iph_totlen() and ipv6_hopopt_jumbo_remove().
 */
static __always_inline __u32 ip_length(__u32 said, __u32 present)
{
	return !said && present > IP_MAX_MTU ? present : said;
}

#endif
