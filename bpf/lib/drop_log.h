/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The drop log: the last distinct packets that the program dropped, or would have
 * dropped but for POLICY_AUDIT.
 */
#ifndef TPROXY_DROP_LOG_H
#define TPROXY_DROP_LOG_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "../maps.h"
#include "ctx.h"
#include "flows.h"

/*
 * A flood costs no more than a counter: beyond the budget of a CPU, packets are not
 * noted. Jiffies cost less than a clock, and a window lasts 64 to 640 ms with all
 * values of HZ. The budget is per CPU, and no softirq interrupts another (stats.h).
 */
static __always_inline bool take_from_budget(void)
{
	__u64 window = bpf_jiffies64() >> DROP_WINDOW_SHIFT;
	struct drop_budget *budget;
	__u32 only = 0;

	budget = bpf_map_lookup_elem(MAP(drop_budget), &only);
	if (!budget)
		return false;
	if (budget->window != window) {
		budget->window = window;
		budget->noted = 0;
	}
	return budget->noted++ < DROPS_PER_WINDOW;
}

/*
 * Read the addresses from the packet, for which a frame without an IP header keeps
 * zeros. The flow that the rows judge has them too. But if it were read here, the
 * verifier would keep the states of both families apart up to this place: 576,508
 * processed instructions on Linux 6.18.
 */
static __always_inline void load_addresses(struct __sk_buff *skb, __u32 offset,
					   struct drop_key *key)
{
	union ip_addr *source = (void *)key->source, *destination = (void *)key->destination;

	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		/* both addresses: they are neighbours in header and key */
		bpf_skb_load_bytes(skb, offset + __builtin_offsetof(struct ipv6hdr, saddr), source,
				   sizeof(key->source) + sizeof(key->destination));
	} else if (skb->protocol == bpf_htons(ETH_P_IP)) {
		source->addr32[2] = destination->addr32[2] = bpf_htonl(0xffff);
		bpf_skb_load_bytes(skb, offset + __builtin_offsetof(struct iphdr, saddr),
				   &source->addr32[3], sizeof(source->addr32[3]));
		bpf_skb_load_bytes(skb, offset + __builtin_offsetof(struct iphdr, daddr),
				   &destination->addr32[3], sizeof(destination->addr32[3]));
	}
}

/* Note a packet. `verdict` is VERDICT_DROP or VERDICT_WOULD_DROP. */
static __always_inline void note_drop(struct __sk_buff *skb, const struct pkt_ctx *ctx,
				      const struct flow *flow, enum reason reason,
				      enum verdict verdict)
{
	struct drop *drop, first = { .packets = 1 };
	struct drop_key key = {
		.ifindex = skb->ifindex,
		.rule = ctx->rule,
		.port = bpf_htons(flow->dport),
		.protocol = flow->protocol,
		.reason = reason,
		.verdict = verdict,
	};

	if (!take_from_budget())
		return;
	load_addresses(skb, network_offset(ctx), &key);
	first.first_seen = first.last_seen = bpf_ktime_get_ns();
	drop = bpf_map_lookup_elem(MAP(drops), &key);
	if (!drop) {
		bpf_map_update_elem(MAP(drops), &key, &first, BPF_ANY);
		return;
	}
	drop->last_seen = first.last_seen;
	__sync_fetch_and_add(&drop->packets, 1);
}

/*
 * Count a packet that leaves as an answer to a would-be drop of its interface. A SYN with
 * ACK shows no more than an open port: a server that sends any other segment has got an
 * ACK, so the address of the client is real.
 */
static __always_inline void note_answer(struct __sk_buff *skb, const struct pkt_ctx *ctx,
					const struct flow *flow)
{
	bool refuses = ctx->kind == PKT_ICMP_ERROR;
	struct drop *drop;
	struct drop_key key = {
		.ifindex = skb->ifindex,
		.port = bpf_htons(is_portless(flow->protocol) ? flow->protocol : flow->sport),
		.protocol = flow->protocol,
		.reason = is_portless(flow->protocol) ? REASON_OTHER : REASON_DEFAULT,
		.verdict = VERDICT_WOULD_DROP,
	};

	if (ctx->kind == PKT_FLOW && flow->protocol == IPPROTO_TCP) {
		__u8 flags = load_tcp_flags(skb, flow);

		if (flags & TCP_SYN)
			return;
		refuses = flags & TCP_RST;
	}
	__builtin_memcpy(key.source, &flow->daddr, sizeof(key.source));
	__builtin_memcpy(key.destination, &flow->saddr, sizeof(key.destination));
	drop = bpf_map_lookup_elem(MAP(drops), &key);
	if (drop)
		__sync_fetch_and_add(refuses ? &drop->refusals : &drop->answers, 1);
}

#endif
