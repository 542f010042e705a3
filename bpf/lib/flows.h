/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The tables of flows. A key has the addresses and ports of the packets that enter.
 *
 * flows_own and flows_forwarded hold flows that began inside: the packets that enter
 * are answers. The tracker on egress adds them. flows_outside holds flows that an
 * interface let in: their answers begin no flow of their own. Whichever of both saw a
 * packet first decides. The tables are apart, so that no flood in one of them pushes
 * an entry out of another.
 *
 * Two CPUs can write one entry at once. Each write is one word with a valid value.
 */
#ifndef TPROXY_FLOWS_H
#define TPROXY_FLOWS_H

#include "../maps.h"
#include "ctx.h"
#include "policy.h"

/* Seconds without a packet, as the defaults of nf_conntrack. */
enum flow_lifetime {
	LIFETIME_NEW = 30,	   /* UDP without an answer, and ICMP echo */
	LIFETIME_STREAM = 120,	   /* UDP with answers */
	LIFETIME_TCP_NEW = 120,	   /* TCP without an answer */
	LIFETIME_TCP_CLOSING = 30, /* TCP after a FIN or RST */
	LIFETIME_TCP_ANSWERED = 86400,
};

enum tcp_wire {
	TCP_FLAGS_OFFSET = 13,
	TCP_FIN = 1,
	TCP_SYN = 2,
	TCP_RST = 4,
	TCP_ACK = 16,
};

static __always_inline void set_key(struct flow_key *key, const union ip_addr *saddr,
				    const union ip_addr *daddr, __u16 sport, __u16 dport,
				    __u8 protocol)
{
	__builtin_memset(key, 0, sizeof(*key));
	__builtin_memcpy(key->saddr, saddr, sizeof(*saddr));
	__builtin_memcpy(key->daddr, daddr, sizeof(*daddr));
	key->sport = sport;
	key->dport = dport;
	key->protocol = protocol;
}

/* The key of a packet that enters. */
static __always_inline void set_key_of(struct flow_key *key, const struct flow *flow)
{
	set_key(key, &flow->saddr, &flow->daddr, flow->sport, flow->dport, flow->protocol);
}

/* The key of the answers to a packet that leaves. */
static __always_inline void set_key_of_answers(struct flow_key *key, const struct flow *flow)
{
	set_key(key, &flow->daddr, &flow->saddr, flow->dport, flow->sport, flow->protocol);
}

/* As is_own(lookup_kind()), but few addresses reach the branches of addr_kind(). */
static __always_inline bool is_own_address(const union ip_addr *addr)
{
	__u32 *kind = bpf_map_lookup_elem(MAP(own_addresses), addr);

	return kind && is_own(*kind | addr_kind(addr));
}

static __always_inline struct flow_state *live_flow(void *map, const struct flow_key *key)
{
	struct flow_state *state = bpf_map_lookup_elem(map, key);

	return state && state->expires > bpf_ktime_get_ns() ? state : NULL;
}

static __always_inline __u8 load_tcp_flags(struct __sk_buff *skb, const struct flow *flow)
{
	__u8 flags = 0;

	bpf_skb_load_bytes(skb, flow->l4_off + TCP_FLAGS_OFFSET, &flags, sizeof(flags));
	return flags;
}

static __always_inline __u64 lifetime_of(__u8 protocol, __u32 flags)
{
	__u32 seconds = LIFETIME_NEW;

	if (protocol == IPPROTO_TCP)
		seconds = flags & FLOW_CLOSING	? LIFETIME_TCP_CLOSING :
			  flags & FLOW_ANSWERED ? LIFETIME_TCP_ANSWERED :
						  LIFETIME_TCP_NEW;
	else if (protocol == IPPROTO_UDP && flags & FLOW_ANSWERED)
		seconds = LIFETIME_STREAM;
	return seconds * 1000000000ULL;
}

/* Prolong a flow by one of its packets. A SYN from the side that began it begins it anew. */
static __always_inline void renew_flow(struct __sk_buff *skb, struct flow_state *state,
				       const struct flow *flow, bool answer)
{
	__u32 flags = state->flags | (answer ? FLOW_ANSWERED : 0);
	__u8 tcp;

	if (flow->protocol == IPPROTO_TCP) {
		tcp = load_tcp_flags(skb, flow);
		if (tcp & (TCP_FIN | TCP_RST))
			flags |= FLOW_CLOSING;
		else if (!answer && (tcp & (TCP_SYN | TCP_ACK)) == TCP_SYN)
			flags = 0;
	}
	state->flags = flags;
	state->expires = bpf_ktime_get_ns() + lifetime_of(flow->protocol, flags);
}

static __always_inline void add_flow(void *map, const struct flow_key *key, __u32 flags)
{
	struct flow_state state = {
		.expires = bpf_ktime_get_ns() + lifetime_of(key->protocol, flags),
		.flags = flags,
	};

	bpf_map_update_elem(map, key, &state, BPF_ANY);
}

#endif
