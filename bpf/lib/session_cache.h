/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The session cache: TCP sessions of this host that the long way has seen a moment ago.
 *
 * A packet of such a session passes before it is parsed in full and before any other
 * lookup but that of the policy. An entry holds for the rest of its epoch, so that a socket
 * that closes is not remembered for long (docs/SEMANTICS.md). A packet that begins or ends
 * a session takes the long way, and removes the entry.
 */
#ifndef TPROXY_SESSION_CACHE_H
#define TPROXY_SESSION_CACHE_H

#include <linux/if_ether.h>
#include <linux/ipv6.h>

#include "../maps.h"
#include "ctx.h"
#include "flows.h"
#include "ipv4.h"
#include "vlan.h"

enum epoch {
	/* 30 jiffies: 0.3 s if HZ is 100, 30 ms if it is 1000; 2185 / 65536 is 1 / 30 */
	EPOCH_FACTOR = 2185,
	EPOCH_SHIFT = 16,
	/* below the epoch: the family, so that no IPv6 packet names an IPv4 session, and the slot of the interface */
	FAMILY_SHIFT = 8,
	STAMP_SHIFT = 9,
};

enum ipv4_plain {
	IPV4_WITHOUT_OPTIONS = 0x45, /* version 4, five words */
};

/* What the cache knows of a packet. */
enum cached {
	CACHED_NOTHING, /* no plain TCP, or a packet that begins or ends a session */
	CACHED_NOT_YET, /* a packet within a session, if there is one */
	CACHED_SESSION,
};

static __always_inline struct tcphdr *plain_ipv4(struct __sk_buff *skb, __u32 offset,
						 struct flow *flow)
{
	struct iphdr *ip = (void *)(long)skb->data + offset;
	struct tcphdr *tcp = (void *)(ip + 1);
	__u32 length;

	if ((void *)(tcp + 1) > (void *)(long)skb->data_end)
		return NULL;
	length = bpf_ntohs(ip->tot_len);
	if (*(__u8 *)ip != IPV4_WITHOUT_OPTIONS || ip->protocol != IPPROTO_TCP ||
	    ip->frag_off & bpf_htons(IP_MF | IP_OFFSET) || length < sizeof(*ip) + sizeof(*tcp) ||
	    offset + length > skb->len)
		return NULL;
	addr_set_v4mapped(&flow->saddr, ip->saddr);
	addr_set_v4mapped(&flow->daddr, ip->daddr);
	return tcp;
}

static __always_inline struct tcphdr *plain_ipv6(struct __sk_buff *skb, __u32 offset,
						 struct flow *flow)
{
	struct ipv6hdr *ip = (void *)(long)skb->data + offset;
	struct tcphdr *tcp = (void *)(ip + 1);
	__u32 length;

	if ((void *)(tcp + 1) > (void *)(long)skb->data_end)
		return NULL;
	length = bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || ip->nexthdr != IPPROTO_TCP || length < sizeof(*tcp) ||
	    offset + sizeof(*ip) + length > skb->len)
		return NULL;
	flow->ipv6 = 1;
	__builtin_memcpy(&flow->saddr, &ip->saddr, sizeof(flow->saddr));
	__builtin_memcpy(&flow->daddr, &ip->daddr, sizeof(flow->daddr));
	return tcp;
}

/* The first word of an entry: ports, the epoch in which it was made, and the interface. */
static __always_inline __u64 session_head(const struct pkt_ctx *ctx, const struct flow *flow)
{
	__u64 epoch = bpf_jiffies64() * EPOCH_FACTOR >> EPOCH_SHIFT;
	__u32 stamp = (__u32)epoch << STAMP_SHIFT | (__u32)flow->ipv6 << FAMILY_SHIFT |
		      (ctx->interface_slot & (INTERFACES - 1));

	return (__u64)flow->sport << 48 | (__u64)flow->dport << 32 | stamp;
}

static __always_inline struct session_set *session_set_of(const struct flow *flow)
{
	__u64 mixed = flow->saddr.addr64[0] ^ flow->saddr.addr64[1] * 0x9e3779b97f4a7c15ULL ^
		      flow->daddr.addr64[0] ^ flow->daddr.addr64[1] * 0xc2b2ae3d27d4eb4fULL ^
		      ((__u64)flow->sport << 16 | flow->dport);
	__u32 number = mixed * 0x9e3779b97f4a7c15ULL >> (64 - SESSION_SETS_SHIFT);

	return bpf_map_lookup_elem(MAP(session_cache), &number);
}

static __always_inline bool is_between(const struct session_ends *ends, const struct flow *flow)
{
	return addr_equal((const void *)ends->saddr, &flow->saddr) &&
	       addr_equal((const void *)ends->daddr, &flow->daddr);
}

/* Return whether a packet belongs to a session that the cache holds. */
static __always_inline bool is_cached_session(const struct pkt_ctx *ctx, const struct flow *flow)
{
	struct session_set *set = session_set_of(flow);
	__u64 head = session_head(ctx, flow);

	if (!set)
		return false;
	return (set->head[0] == head && is_between(&set->ends[0], flow)) ||
	       (set->head[1] == head && is_between(&set->ends[1], flow));
}

/* Remove the entry of a session: the next packets of its ends can be those of another one. */
static __always_inline void forget_session(const struct flow *flow)
{
	struct session_set *set = session_set_of(flow);
	__u32 ports = (__u32)flow->sport << 16 | flow->dport;

	if (!set)
		return;
	if (set->head[0] >> 32 == ports && is_between(&set->ends[0], flow))
		set->head[0] = 0;
	if (set->head[1] >> 32 == ports && is_between(&set->ends[1], flow))
		set->head[1] = 0;
}

/* Read the ends of a plain TCP packet: whole, without a tag and without options of IP. NULL: it is none. */
static __always_inline struct tcphdr *read_plain_tcp(struct __sk_buff *skb, __u32 offset,
						     struct flow *flow)
{
	struct tcphdr *tcp;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		tcp = plain_ipv4(skb, offset, flow);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		tcp = plain_ipv6(skb, offset, flow);
	else
		return NULL;
	if (!tcp)
		return NULL;
	flow->sport = bpf_ntohs(tcp->source);
	flow->dport = bpf_ntohs(tcp->dest);
	return tcp;
}

/* Look for the session of a packet. A test run takes the long way, to tell the rule. */
static __always_inline enum cached lookup_cache(struct __sk_buff *skb, const struct pkt_ctx *ctx)
{
	struct flow flow = {};
	struct tcphdr *tcp;

	if (!ctx->policy || has_vlan_id(skb) || is_test_run(skb))
		return CACHED_NOTHING;
	tcp = read_plain_tcp(skb, network_offset(ctx), &flow);
	if (!tcp)
		return CACHED_NOTHING;
	if (((__u8 *)tcp)[TCP_FLAGS_OFFSET] & (TCP_FIN | TCP_SYN | TCP_RST)) {
		forget_session(&flow);
		return CACHED_NOTHING;
	}
	return is_cached_session(ctx, &flow) ? CACHED_SESSION : CACHED_NOT_YET;
}

/*
 * Remember a session, in place of an entry of an earlier epoch if there is one. Two CPUs
 * that write one entry can leave the ports of one session with the addresses of another.
 * A packet of that kind would reach this host, which has no socket for it.
 */
static __always_inline void remember_session(const struct pkt_ctx *ctx, const struct flow *flow)
{
	struct session_set *set = session_set_of(flow);
	__u64 head = session_head(ctx, flow);
	__u32 way;

	if (!set)
		return;
	way = (__u32)set->head[0] >> STAMP_SHIFT == (__u32)head >> STAMP_SHIFT;
	way &= (__u32)set->head[1] >> STAMP_SHIFT != (__u32)head >> STAMP_SHIFT || flow->sport & 1;
	set->head[way] = 0;
	__builtin_memcpy(set->ends[way].saddr, &flow->saddr, sizeof(flow->saddr));
	__builtin_memcpy(set->ends[way].daddr, &flow->daddr, sizeof(flow->daddr));
	barrier_var(set);
	set->head[way] = head;
}

#endif
