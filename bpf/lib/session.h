/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Sessions on ingress: packets that answer a tracked flow, and flows that began outside.
 */
#ifndef TPROXY_SESSION_H
#define TPROXY_SESSION_H

#include "flows.h"

/* Return the session that packets with this key belong to, NULL if there is none. */
static __always_inline struct flow_state *session_at(const struct pkt_ctx *ctx,
						     const struct flow_key *key)
{
	struct flow_state *state = live_flow(MAP(flows_own), key);

	if (!state && ctx->flags & POLICY_TRACK_ALL)
		state = live_flow(MAP(flows_forwarded), key);
	return state;
}

/* Whether the packet, or the flow that an ICMP error quotes, answers a tracked flow. */
static __always_inline bool is_session(struct __sk_buff *skb, const struct pkt_ctx *ctx,
				       const struct flow *flow)
{
	struct flow_state *state;
	struct flow_key key;

	if (!(ctx->flags & POLICY_TRACK))
		return false;
	set_key_of(&key, flow);
	state = session_at(ctx, &key);
	if (!state)
		return false;
	if (ctx->kind == PKT_FLOW && !is_test_run(skb))
		renew_flow(skb, state, flow, true);
	return true;
}

/* Whether it is the reply to a tracked echo request: other messages have no identifier. */
static __always_inline bool
is_echo_reply_of_session(struct __sk_buff *skb, const struct pkt_ctx *ctx, const struct flow *flow)
{
	return ctx->kind == PKT_CONTROL && is_session(skb, ctx, flow);
}

/*
 * Whether the tracker could take an answer to this packet for a flow of its own. It
 * records no TCP of this host, so a packet to a socket of this host matters for UDP only.
 */
static __always_inline bool needs_note(const struct pkt_ctx *ctx, const struct flow *flow,
				       enum reason reason)
{
	bool to_socket = reason == REASON_ESTABLISHED || reason == REASON_SPLICED;

	if (ctx->flags & POLICY_TRACK_ALL && !to_socket)
		return true;
	return flow->protocol == IPPROTO_UDP && is_own_address(&flow->daddr);
}

/* Note that a flow began outside: a packet of it was let in, and it answers no session. */
static __always_inline void note_outside(struct __sk_buff *skb, const struct pkt_ctx *ctx,
					 const struct flow *flow, enum reason reason)
{
	struct flow_state *state;
	struct flow_key key;

	if (!(ctx->flags & POLICY_TRACK) || ctx->kind != PKT_FLOW || ctx->verdict == VERDICT_DROP ||
	    reason == REASON_SESSION || is_test_run(skb) || !needs_note(ctx, flow, reason))
		return;
	set_key_of(&key, flow);
	state = session_at(ctx, &key);
	if (state) {
		renew_flow(skb, state, flow, true);
		return;
	}
	state = live_flow(MAP(flows_outside), &key);
	if (state)
		renew_flow(skb, state, flow, true);
	else
		add_flow(MAP(flows_outside), &key, FLOW_ANSWERED);
}

#endif
