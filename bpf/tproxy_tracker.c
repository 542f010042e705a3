/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The tracker on the egress hook: it records the flows that begin inside, so that the
 * program on ingress can pass their answers as sessions (docs/SEMANTICS.md, Sessions).
 * While a policy audits, it notes which would-be drops get an answer. It drops no packet
 * and changes none.
 */
#include <linux/pkt_cls.h>

#include "lib/ctx.h"
#include "lib/drop_log.h"
#include "lib/flows.h"
#include "lib/parse.h"
#include "lib/policy.h"

/*
 * The kernel sets skb_iif of a packet that it received, so a packet of this host has 0
 * there, and so has a packet that a tunnel of the kernel made: skb_scrub_packet().
 */
static __always_inline bool was_received(const struct __sk_buff *skb)
{
	return skb->ingress_ifindex;
}

/*
 * Of this host's own packets, UDP and echo requests from an own address. TCP has a socket,
 * by which the program on ingress knows it. The answer of a proxy to its client has a
 * foreign source.
 */
static __always_inline bool is_tracked(const struct __sk_buff *skb, const struct pkt_ctx *ctx,
				       const struct flow *flow)
{
	if (was_received(skb))
		return ctx->flags & POLICY_TRACK_ALL;
	return flow->protocol != IPPROTO_TCP && is_own_address(&flow->saddr);
}

/* TCP in its middle is taken up, since the tracker can have missed its begin. */
static __always_inline bool can_begin(struct __sk_buff *skb, const struct flow *flow)
{
	return flow->protocol != IPPROTO_TCP || !(load_tcp_flags(skb, flow) & (TCP_FIN | TCP_RST));
}

/* Record the flow of a packet that leaves, unless the packet answers a flow itself. */
static __always_inline void record_flow(struct __sk_buff *skb, void *map, const struct flow *flow)
{
	struct flow_state *state;
	struct flow_key key;

	set_key_of_answers(&key, flow);
	state = live_flow(map, &key);
	if (!state)
		state = live_flow(MAP(flows_outside), &key);
	if (state) {
		renew_flow(skb, state, flow, false);
		return;
	}
	set_key_of(&key, flow);
	if (live_flow(map, &key) || !can_begin(skb, flow))
		return;
	set_key_of_answers(&key, flow);
	add_flow(map, &key, 0);
}

/* Other kinds name no flow, or one that no rule can name. */
static __always_inline bool can_answer(enum pkt_kind kind)
{
	return kind == PKT_FLOW || kind == PKT_PORTLESS || kind == PKT_ICMP_ERROR;
}

int tproxy_tracker(struct __sk_buff *skb)
{
	struct pkt_ctx ctx = {};
	struct flow flow = {};

	lookup_policy(skb, &ctx);
	if (!(ctx.flags & POLICY_TRACK) || has_vlan_id(skb))
		return TC_ACT_UNSPEC;
	ctx.kind = parse_packet(skb, network_offset(&ctx), &flow);
	if (ctx.flags & POLICY_AUDIT && can_answer(ctx.kind))
		note_answer(skb, &ctx, &flow);
	if ((ctx.kind == PKT_FLOW || ctx.kind == PKT_ECHO) && is_tracked(skb, &ctx, &flow))
		record_flow(skb, was_received(skb) ? MAP(flows_forwarded) : MAP(flows_own), &flow);
	return TC_ACT_UNSPEC;
}
