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
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define host16(value) __builtin_bswap16(value)
#define host32(value) __builtin_bswap32(value)
#else
#define host16(value) (value)
#define host32(value) (value)
#endif

/* Hide a value's origin from the compiler. */
#define OPAQUE(value) asm volatile("" : "+r"(value))

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
	VLAN_ID = 0xfff,            /* IEEE 802.1Q: the rest of a tag is its priority */
	IPV4_FRAGMENT = 0x3fff,     /* more fragments, or an offset: RFC 791 */
	IPV4_OFFSET = 0x1fff,
	IPV6_FRAGMENT = 0xfff9,     /* the same: RFC 8200, section 4.5 */
	IPV6_OFFSET = 0xfff8,
	LENGTH_MAX = 0xffff,
	EXTENSIONS = 8,             /* IPv6 extension headers that are looked into */
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

/*
 * A packet of more than 64 KiB (BIG TCP: IPv6 since Linux 5.19, IPv4 since 6.3)
 * says length 0: the kernel then takes the length of the buffer, see
 * iph_totlen() and ipv6_hopopt_jumbo_remove().
 */
static __always_inline __u32 true_length(__u32 said, __u32 present)
{
	return !said && present > LENGTH_MAX ? present : said;
}

static __always_inline enum parsed parse_ipv4(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	struct iphdr *ip = header(skb, offset, sizeof(*ip));
	__u32 header_length, length;

	if (!ip)
		return PARSED_MALFORMED;
	header_length = ip->ihl * 4;
	if (ip->version != 4 || header_length < sizeof(*ip))
		return PARSED_MALFORMED;
	length = true_length(host16(ip->tot_len), skb->len - offset);
	if (length < header_length || offset + length > skb->len)
		return PARSED_MALFORMED;
	map_ipv4(&flow->source, ip->saddr);
	map_ipv4(&flow->destination, ip->daddr);
	flow->protocol = ip->protocol;
	flow->payload = offset + header_length;
	flow->end = offset + length;
	if (ip->frag_off & host16(IPV4_FRAGMENT))
		return PARSED_FRAGMENT;
	return PARSED_OTHER;
}

/* What every IPv6 extension header begins with; `rest` is the offset in a fragment header. */
struct extension {
	__u8 next;
	__u8 length;
	__be16 rest;
};

static __always_inline int is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
	       next == IPPROTO_AH || next == IPPROTO_DSTOPTS;
}

/* Bytes of an extension header: RFC 8200 counts in 8 behind the first, RFC 4302 (AH) in 4 behind the second. */
static __always_inline __u32 extension_bytes(__u8 kind, __u8 length)
{
	if (kind == IPPROTO_FRAGMENT)
		return 8;
	return kind == IPPROTO_AH ? (length + 2) * 4 : (length + 1) * 8;
}

/* Headers that go on in the padding end beyond the packet. */
static __always_inline int ends_well(const struct flow *flow)
{
	return flow->payload <= flow->end && flow->payload < EXTENSIONS_END;
}

/*
 * Go behind the extension headers, up to a fragment that has one of these bits:
 * a fragment of one piece (RFC 6946) is none.
 */
static __always_inline enum parsed skip_extensions(struct __sk_buff *skb, struct flow *flow, __u16 fragment)
{
	struct extension extension;
	__u8 kind;
	int i;

	for (i = 0; i < EXTENSIONS && is_extension(flow->protocol); i++) {
		kind = flow->protocol;
		if (bpf_skb_load_bytes(skb, flow->payload, &extension, sizeof(extension)))
			return PARSED_MALFORMED;
		flow->protocol = extension.next;
		flow->payload += extension_bytes(kind, extension.length);
		if (kind == IPPROTO_FRAGMENT && extension.rest & host16(fragment))
			return ends_well(flow) ? PARSED_FRAGMENT : PARSED_MALFORMED;
	}
	return ends_well(flow) && !is_extension(flow->protocol) ? PARSED_OTHER : PARSED_MALFORMED;
}

static __always_inline enum parsed parse_ipv6(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	struct ipv6hdr *ip = header(skb, offset, sizeof(*ip));

	if (!ip || ip->version != 6)
		return PARSED_MALFORMED;
	flow->payload = offset + sizeof(*ip);
	flow->end = flow->payload + true_length(host16(ip->payload_len), skb->len - flow->payload);
	if (flow->end > skb->len)
		return PARSED_MALFORMED;
	__builtin_memcpy(&flow->source, &ip->saddr, sizeof(flow->source));
	__builtin_memcpy(&flow->destination, &ip->daddr, sizeof(flow->destination));
	flow->protocol = ip->nexthdr;
	flow->hop_limit = ip->hop_limit;
	flow->ipv6 = 1;
	if (is_mapped(&flow->source) || is_mapped(&flow->destination))
		return PARSED_MALFORMED;
	return is_extension(flow->protocol) ? skip_extensions(skb, flow, IPV6_FRAGMENT) : PARSED_OTHER;
}

#endif
