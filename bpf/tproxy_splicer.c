/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The transparent-proxy firewall on the ingress hook.
 *
 * handle_ingress() evaluates the packet table of docs/SEMANTICS.md from top to
 * bottom. Every packet leaves through finish(), which counts it by its reason.
 */
#include <linux/pkt_cls.h>

#include "lib/ctx.h"
#include "lib/drop_log.h"
#include "lib/fragments.h"
#include "lib/listeners.h"
#include "lib/parse.h"
#include "lib/policy.h"
#include "lib/ruleset.h"
#include "lib/session.h"
#include "lib/session_cache.h"
#include "lib/socket.h"
#include "lib/stats.h"

static __always_inline int finish(struct __sk_buff *skb, struct pkt_ctx *ctx,
				  const struct flow *flow, enum reason reason)
{
	enum verdict verdict = ctx->flags & POLICY_LOOPBACK ? VERDICT_PASS : ctx->verdict;

	if (is_test_run(skb)) {
		skb->cb[TRACE_REASON] = reason | verdict << 8;
		skb->cb[TRACE_RULE] = ctx->rule;
		skb->cb[TRACE_ERROR] = ctx->error;
	} else {
		count_outcome(ctx->interface_slot, reason, verdict, skb->len);
		if (verdict != VERDICT_PASS)
			note_drop(skb, ctx, flow, reason, verdict);
	}
	clear_mark(skb, ctx);
	if (verdict == VERDICT_DROP)
		return TC_ACT_SHOT;
	if (reason != REASON_SPLICED && ctx->flags & POLICY_ACCEPT_UNSPEC)
		return TC_ACT_UNSPEC;
	return TC_ACT_OK;
}

/*
 * Return whether a rule takes no packet to an own address. A rule can, if it names that
 * address itself, or special addresses alone. Then a rule of a router spares reserved ports.
 */
static __always_inline bool leaves_own_address(const struct action *action, const struct flow *flow)
{
	if (!(action->flags & (ACTION_ONE_ADDRESS | ACTION_SPECIAL_RANGE)))
		return true;
	return action->flags & ACTION_SPARES_RESERVED && is_reserved(flow);
}

/*
 * Return whether the stack takes no packet from this source: a martian source, see
 * ip_route_input_slow() and ip6_rcv_core(). A host without an address has 0.0.0.0, and
 * asks a group. On loopback the stack looks at no source.
 */
static __always_inline bool has_martian_source(const struct pkt_ctx *ctx, const struct flow *flow)
{
	__u32 asks_group =
		is_zero(flow->saddr.addr8[12]) & !!(addr_kind(&flow->daddr) & ADDRESS_GROUP);

	return !!addr_kind(&flow->saddr) & !asks_group & !(ctx->flags & POLICY_LOOPBACK);
}

/*
 * Return whether the stack gives the packet to a socket, if an address of this host
 * were its destination. It sends a packet with a further hop on, and a port of a bridge
 * gives its packets to the bridge.
 */
static __always_inline bool is_deliverable(const struct pkt_ctx *ctx, const struct flow *flow)
{
	return !(flow->has_next_hop | !!(ctx->flags & POLICY_PORT) | has_martian_source(ctx, flow));
}

static __always_inline enum reason redirect_to_proxy(struct __sk_buff *skb, struct pkt_ctx *ctx,
						     const struct flow *flow)
{
	__u32 kind = 0;
	enum reason reason;

	if (leaves_own_address(ctx->action, flow))
		kind = lookup_kind(&flow->daddr);
	if (!is_deliverable(ctx, flow))
		kind |= ADDRESS_SPECIAL;
	kind = forget(skb, kind);
	if (is_own(kind))
		return verdict_pass(ctx, REASON_LOCAL);
	if (kind)
		return default_action(ctx, REASON_UNDELIVERABLE);
	reason = assign_socket(skb, ctx, flow);
	/* The stack forgets the socket when it puts the datagram together. */
	if (flow->fragment && reason != REASON_NO_LISTENER &&
	    !(reason == REASON_SPLICED && stack_finds_listener(skb, ctx, flow)))
		return verdict_drop(ctx, REASON_FRAGMENT);
	if (reason == REASON_SPLICED) {
		set_mark(skb, ctx);
		return verdict_pass(ctx, reason);
	}
	if (reason == REASON_NO_LISTENER && ctx->action->flags & ACTION_PASS_WHEN_MISSING)
		return verdict_pass(ctx, reason);
	return verdict_drop(ctx, reason);
}

static __always_inline enum reason apply_rule(struct __sk_buff *skb, struct pkt_ctx *ctx,
					      const struct flow *flow)
{
	if (!is_test_run(skb))
		count_hit(ctx->rule, skb->len);
	switch (ctx->action->kind) {
	case ACTION_TPROXY:
		return redirect_to_proxy(skb, ctx, flow);
	case ACTION_PASS:
		return verdict_pass(ctx, REASON_RULE);
	default:
		return verdict_drop(ctx, REASON_RULE);
	}
}

/*
 * Pass a packet to a socket of this host. A route must lead the packet to its
 * socket: early demux can have none cached, and a change of addresses or routes
 * invalidates the cached one. So every session of this host is marked, even if
 * its rule is gone.
 */
static __always_inline enum reason accept_local(struct __sk_buff *skb, struct pkt_ctx *ctx,
						enum reason reason)
{
	set_mark(skb, ctx);
	return verdict_pass(ctx, reason);
}

/* Let the verifier merge what it knows of kinds, families, protocols and header lengths. */
static __always_inline void forget_kind(struct __sk_buff *skb, struct pkt_ctx *ctx,
					struct flow *flow)
{
	__u32 packed =
		forget(skb, ctx->kind | flow->ipv6 << 7 | flow->protocol << 8 | flow->l4_off << 16 |
				    flow->fragment << 28 | (__u32)flow->has_next_hop << 30);

	ctx->kind = packed & 0x7f;
	flow->ipv6 = packed >> 7 & 1;
	flow->protocol = packed >> 8;
	flow->l4_off = packed >> 16 & 0xfff;
	flow->fragment = packed >> 28 & 3;
	flow->has_next_hop = packed >> 30 & 1;
}

/*
 * A fragment without ports gets what its first one got. If that is not known, drop the
 * fragment if a rule can splice or drop its datagram.
 */
static __always_inline enum reason handle_fragment(struct __sk_buff *skb, struct pkt_ctx *ctx,
						   const struct flow *flow)
{
	if (follow_first_fragment(skb, ctx, flow)) {
		ctx->rule = 0;
		return REASON_FRAGMENT;
	}
	if (ctx->action)
		return verdict_drop(ctx, REASON_FRAGMENT);
	return default_action(ctx, REASON_FRAGMENT);
}

/* Accept an error about a session of this host, an intercept, or a flow that a rule passes. */
static __always_inline enum reason handle_icmp_error(struct __sk_buff *skb, struct pkt_ctx *ctx,
						     const struct flow *flow, enum session session)
{
	if (session == SESSION_LOCAL || is_intercept(ctx))
		return accept_local(skb, ctx, REASON_ICMP);
	if (ctx->action && ctx->action->kind == ACTION_PASS)
		return verdict_pass(ctx, REASON_ICMP);
	/*
	 * An unconnected UDP socket gets errors too. A TCP listener has sent nothing
	 * that an error could be about.
	 */
	if (session && flow->protocol == IPPROTO_UDP)
		return verdict_pass(ctx, REASON_ICMP);
	if (!ctx->action && is_session(skb, ctx, flow))
		return verdict_pass(ctx, REASON_ICMP);
	return default_action(ctx, REASON_ICMP);
}

/* Accept an error about an echo request that this host sent, or one that left by a tracked interface. */
static __always_inline enum reason handle_echo_error(struct __sk_buff *skb, struct pkt_ctx *ctx,
						     const struct flow *flow)
{
	if (is_own_address(&flow->daddr) || is_session(skb, ctx, flow))
		return verdict_pass(ctx, REASON_ICMP);
	return default_action(ctx, REASON_ICMP);
}

static __always_inline enum reason handle_flow(struct __sk_buff *skb, struct pkt_ctx *ctx,
					       const struct flow *flow, enum session session)
{
	if (session == SESSION_LOCAL)
		return accept_local(skb, ctx, REASON_ESTABLISHED);
	if (ctx->action)
		return apply_rule(skb, ctx, flow);
	if (ctx->kind == PKT_PORTLESS)
		return default_action(ctx, REASON_OTHER);
	if (is_session(skb, ctx, flow))
		return verdict_pass(ctx, REASON_SESSION);
	return default_action(ctx, REASON_DEFAULT);
}

/*
 * Return whether the program must look for a socket of the flow itself. A proxy can connect a
 * UDP socket for its client, under the address that the client asked. A rule that names its
 * listener says that this proxy does not, so only sessions at own addresses are left to it.
 */
static __always_inline bool can_be_session(const struct pkt_ctx *ctx, const struct flow *flow)
{
	if (flow->protocol != IPPROTO_UDP || ctx->kind != PKT_FLOW || !is_intercept(ctx) ||
	    !(ctx->action->flags & ACTION_CHECK_LISTENER))
		return has_ports(flow->protocol);
	return is_for_host(lookup_kind(&flow->daddr));
}

/* Give the verdict on a flow, a fragment or an ICMP error, by rules and sessions. */
static __always_inline enum reason handle_rules(struct __sk_buff *skb, struct pkt_ctx *ctx,
						struct flow *flow)
{
	__u32 word = first_word(ctx, flow);
	enum session session;

	forget_kind(skb, ctx, flow);
	match_rule(ctx, flow, skb->ifindex, forget(skb, word));
	if (ctx->kind == PKT_FRAGMENT)
		return handle_fragment(skb, ctx, flow);
	session = can_be_session(ctx, flow) ? lookup_session(skb, flow) : SESSION_NONE;
	if (ctx->kind == PKT_ICMP_ERROR)
		return handle_icmp_error(skb, ctx, flow, session);
	return handle_flow(skb, ctx, flow, session);
}

/*
 * True for a frame for the link address of another host. The stack gives it to a macvlan,
 * which has a hook of its own, and otherwise drops it. A bridge forwards it, so its ports
 * judge it. A test run has no link address.
 */
static __always_inline bool is_for_other_host(const struct __sk_buff *skb,
					      const struct pkt_ctx *ctx)
{
	return skb->pkt_type == PACKET_TYPE_OTHERHOST &&
	       !(ctx->flags & (POLICY_PORT | POLICY_LAYER3 | POLICY_LOOPBACK)) && !is_test_run(skb);
}

static __always_inline enum reason handle_ingress(struct __sk_buff *skb, struct pkt_ctx *ctx,
						  struct flow *flow)
{
	enum reason reason;

	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return verdict_pass(ctx, REASON_ARP);
	if (has_vlan_id(skb))
		return verdict_pass(ctx, REASON_VLAN);
	if (is_for_other_host(skb, ctx))
		return verdict_pass(ctx, REASON_LINK);
	ctx->kind = parse_packet(skb, network_offset(ctx), flow);
	switch (ctx->kind) {
	case PKT_TAGGED:
		return verdict_pass(ctx, REASON_VLAN);
	case PKT_MALFORMED:
		return verdict_drop(ctx, REASON_MALFORMED);
	case PKT_LINK:
		return ctx->flags & POLICY_DROP_LINK ? verdict_drop(ctx, REASON_LINK) :
						       verdict_pass(ctx, REASON_LINK);
	case PKT_OTHER:
		return default_action(ctx, REASON_OTHER);
	case PKT_CONTROL:
	case PKT_ECHO:
		if (ctx->kind == PKT_ECHO && !(ctx->flags & POLICY_ALLOW_ECHO))
			return default_action(ctx, REASON_ICMP);
		return icmp_is_for_host(flow) || is_echo_reply_of_session(skb, ctx, flow) ?
			       verdict_pass(ctx, REASON_ICMP) :
			       default_action(ctx, REASON_ICMP);
	case PKT_ECHO_ERROR:
		return handle_echo_error(skb, ctx, flow);
	case PKT_FLOW:
	case PKT_PORTLESS:
		forget_kind(skb, ctx, flow);
		reason = accepted_service(skb, ctx, flow);
		if (reason)
			return verdict_pass(ctx, reason);
		break;
	case PKT_FRAGMENT:
	case PKT_ICMP_ERROR:
		break;
	}
	return handle_rules(skb, ctx, flow);
}

int tproxy_splicer(struct __sk_buff *skb)
{
	struct pkt_ctx ctx = {};
	struct flow flow = {};
	enum cached cached;
	enum reason reason;

	lookup_policy(skb, &ctx);
	cached = forget(skb, lookup_cache(skb, &ctx));
	if (cached == CACHED_SESSION)
		return finish(skb, &ctx, &flow, accept_local(skb, &ctx, REASON_ESTABLISHED));
	reason = handle_ingress(skb, &ctx, &flow);
	if (cached == CACHED_NOT_YET && reason == REASON_ESTABLISHED)
		remember_session(&ctx, &flow);
	note_outside(skb, &ctx, &flow, reason);
	note_first_fragment(skb, &ctx, &flow);
	return finish(skb, &ctx, &flow, reason);
}
