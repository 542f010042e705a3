/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The transparent-proxy firewall on the ingress hook.
 *
 * judge() is the packet's life, top to bottom: what it is, who may always
 * pass, whose session it is, which rule names it.  Each way out goes through
 * conclude(), which counts it under its reason.
 */
#include <linux/pkt_cls.h>

#include "lib/ctx.h"
#include "lib/parse.h"
#include "lib/policy.h"
#include "lib/ruleset.h"
#include "lib/socket.h"
#include "lib/stats.h"

static __always_inline int conclude(struct __sk_buff *skb, struct passage *way, enum reason reason)
{
	enum verdict verdict = way->flags & POLICY_LOOPBACK ? VERDICT_PASS : way->verdict;

	count(MAP(reasons), (way->interface_slot * REASONS + reason) * VERDICTS + verdict, skb->len);
	skb->cb[TRACE_REASON] = reason | verdict << 8;
	skb->cb[TRACE_RULE] = way->rule;
	skb->cb[TRACE_ERROR] = way->error;
	clear_mark(skb, way);
	if (verdict == VERDICT_DROP)
		return TC_ACT_SHOT;
	if (reason != REASON_SPLICED && way->flags & POLICY_ACCEPT_UNSPEC)
		return TC_ACT_UNSPEC;
	return TC_ACT_OK;
}

static __always_inline enum reason intercept(struct __sk_buff *skb, struct passage *way, const struct flow *flow)
{
	struct interface_addresses *entry = recorded_addresses(skb->ifindex);
	enum reason reason;

	if (entry && lists(entry, &flow->destination))
		return pass(way, REASON_LOCAL);
	reason = splice(skb, way, flow);
	if (reason == REASON_SPLICED) {
		set_mark(skb, way);
		return pass(way, reason);
	}
	if (reason == REASON_NO_LISTENER && way->action->flags & ACTION_PASS_WHEN_MISSING)
		return pass(way, reason);
	return drop(way, reason);
}

static __always_inline enum reason obey_rule(struct __sk_buff *skb, struct passage *way, const struct flow *flow)
{
	count(MAP(hits), way->rule, skb->len);
	switch (way->action->kind) {
	case ACTION_TPROXY:
		return intercept(skb, way, flow);
	case ACTION_PASS:
		return pass(way, REASON_RULE);
	default:
		return drop(way, REASON_RULE);
	}
}

static __always_inline int is_intercept(const struct passage *way)
{
	return way->action && way->action->kind == ACTION_TPROXY;
}

/*
 * A route must lead it to its socket: early demux may have none cached, and any
 * change of addresses or routes voids what it has.  So every session of this
 * host is marked: that of a rule which is gone needs it as well.
 */
static __always_inline enum reason keep(struct __sk_buff *skb, struct passage *way, enum reason reason)
{
	set_mark(skb, way);
	return pass(way, reason);
}

/* What the path says of a flow comes to whom it concerns: a socket here, or whom a rule lets in past this host. */
static __always_inline enum reason judge_error(struct __sk_buff *skb, struct passage *way, const struct flow *flow,
					       enum session session)
{
	if (session == SESSION_OWN || is_intercept(way))
		return keep(skb, way, REASON_ICMP);
	if (way->action && way->action->kind == ACTION_PASS)
		return pass(way, REASON_ICMP);
	/* An unconnected UDP socket hears of errors too; a listener has sent nothing that could go wrong. */
	if (session && flow->protocol == IPPROTO_UDP)
		return pass(way, REASON_ICMP);
	return obey_default(way, REASON_ICMP);
}

static __always_inline enum reason judge_session(struct __sk_buff *skb, struct passage *way, const struct flow *flow)
{
	enum session session;

	find_rule(skb, way, flow);
	if (way->parsed == PARSED_FRAGMENT)
		return is_intercept(way) ? drop(way, REASON_FRAGMENT) : obey_default(way, REASON_FRAGMENT);
	session = session_of(skb, flow);
	if (way->parsed == PARSED_QUOTE)
		return judge_error(skb, way, flow, session);
	if (session == SESSION_OWN)
		return keep(skb, way, REASON_ESTABLISHED);
	if (way->action)
		return obey_rule(skb, way, flow);
	return obey_default(way, REASON_DEFAULT);
}

static __always_inline enum reason judge(struct __sk_buff *skb, struct passage *way)
{
	struct flow flow = {};

	if (skb->protocol == host16(ETH_P_ARP))
		return pass(way, REASON_ARP);
	/* VLAN 0 only carries a priority: the frame is this interface's own, see vlan_do_receive(). */
	if (skb->vlan_present && skb->vlan_tci & VLAN_ID)
		return pass(way, REASON_VLAN);
	way->parsed = parse_packet(skb, way->flags & POLICY_LAYER3 ? 0 : ETH_HLEN, &flow);
	switch (way->parsed) {
	case PARSED_TAGGED:
		return pass(way, REASON_VLAN);
	case PARSED_MALFORMED:
		return drop(way, REASON_MALFORMED);
	case PARSED_OTHER:
		return obey_default(way, REASON_OTHER);
	case PARSED_CONTROL:
		return pass(way, REASON_ICMP);
	case PARSED_ECHO:
		return way->flags & POLICY_ALLOW_ECHO ? pass(way, REASON_ICMP) : obey_default(way, REASON_ICMP);
	case PARSED_FLOW:
		if (way->policy && is_management(way->policy, &flow))
			return pass(way, REASON_MANAGEMENT);
		if (is_dhcp(&flow))
			return pass(way, REASON_DHCP);
		if (is_ssh(skb, way, &flow))
			return pass(way, REASON_SSH);
		break;
	default:
		break;
	}
	return judge_session(skb, way, &flow);
}

int tproxy_splicer(struct __sk_buff *skb)
{
	struct passage way = {};

	enter(skb, &way);
	return conclude(skb, &way, judge(skb, &way));
}
