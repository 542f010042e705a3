/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The transparent-proxy firewall on the ingress hook.
 *
 * judge() is the packet's life, top to bottom: what it is, who may always
 * pass, whose session it is, which rule names it.  Each way out goes through
 * conclude(), which counts it under its reason.
 *
 * This is the only file that touches maps.  A map is a placeholder (maps.h)
 * which the loader replaces by a file descriptor.
 */
#include <linux/pkt_cls.h>

#include "icmp.h"
#include "maps.h"
#include "parse.h"
#include "walk.h"

#define MAP(name) ((void *)bpf_pseudo_fd(1, SLOT_##name))

enum ports {
	SSH_PORT = 22,
	DHCP_SERVER_PORT = 67,      /* RFC 2131, section 4.1 */
	DHCP_CLIENT_PORT = 68,
	DHCPV6_SERVER_PORT = 547,   /* RFC 8415, section 7.2 */
	DHCPV6_CLIENT_PORT = 546,
};

enum {
	MAPPED_BITS = 96,           /* of ::ffff:0:0/96, RFC 4291, section 2.5.5.2 */
};

/* One packet on its way through. */
struct passage {
	struct policy *policy;      /* NULL: somebody removed it */
	__u32 interface_slot;
	__u32 flags;               /* of the policy */
	__u32 rule;                /* slot of the best rule, 0 = none */
	struct action *action;      /* of that rule */
	long error;                 /* of bpf_sk_assign */
	enum parsed parsed;
	enum verdict verdict;
	__u32 is_marked;           /* by us, so that it is delivered here */
};

/* ---- the mark, by which packets are delivered to this host ------------------ */

static __always_inline void set_mark(struct __sk_buff *skb, struct passage *way)
{
	__u32 mark = DEFAULT_MARK, mask = DEFAULT_MARK_MASK;

	if (way->policy) {
		mark = way->policy->mark;
		mask = way->policy->mark_mask;
	}
	skb->mark = (skb->mark & ~mask) | (mark & mask);
	way->is_marked = 1;
}

/*
 * A packet may come in with our mark: a tunnel hands on what it carried with
 * that of its own packets (skb_scrub_packet() within a namespace).  It would be
 * delivered here, wherever it is bound.
 */
static __always_inline void clear_mark(struct __sk_buff *skb, const struct passage *way)
{
	__u32 mask = way->policy ? way->policy->mark_mask : DEFAULT_MARK_MASK;

	if (!way->is_marked && skb->mark & mask && !(way->flags & POLICY_LOOPBACK))
		skb->mark &= ~mask;
}

/* ---- the ways out --------------------------------------------------------- */

static __always_inline enum reason pass(struct passage *way, enum reason reason)
{
	way->verdict = VERDICT_PASS;
	return reason;
}

static __always_inline enum reason drop(struct passage *way, enum reason reason)
{
	way->verdict = VERDICT_DROP;
	return reason;
}

static __always_inline enum reason obey_default(struct passage *way, enum reason reason)
{
	way->verdict = way->flags & POLICY_DEFAULT_PASS ? VERDICT_PASS : VERDICT_DROP;
	return reason;
}

static __always_inline void count(void *map, __u32 index, __u32 bytes)
{
	struct counter *counter = bpf_map_lookup_elem(map, &index);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

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

/* ---- what is known of the interface -------------------------------------- */

static __always_inline struct policy *policy_at(__u32 slot, __u32 ifindex)
{
	struct policy *policy = bpf_map_lookup_elem(MAP(policy), &slot);

	return policy && policy->ifindex == ifindex ? policy : 0;
}

/* The dead-man switch: a change that nobody confirmed in time is over, whether or not a process lives to undo it. */
static __always_inline int is_over(const struct policy *policy)
{
	return policy->deadline && bpf_ktime_get_ns() > policy->deadline;
}

/*
 * A policy that was removed by hand leaves the interface closed but for SSH:
 * never open, never locked.  An Ethernet header ends with what the kernel knows
 * of the protocol; a packet of a layer 3 device has bytes of an address there.
 * No branch: the verifier would follow it through the whole program.
 */
static __always_inline __u32 flags_without_policy(struct __sk_buff *skb)
{
	__be16 protocol = 0;
	__u32 difference;

	bpf_skb_load_bytes(skb, ETH_HLEN - sizeof(protocol), &protocol, sizeof(protocol));
	difference = protocol ^ skb->protocol;
	return POLICY_ALLOW_SSH | (-difference >> 31) * POLICY_LAYER3;
}

static __always_inline void enter(struct __sk_buff *skb, struct passage *way)
{
	struct policy *policy = 0;
	__u32 i, slot;

	for (i = 0; i < PROBES && !policy; i++) {
		slot = (skb->ifindex + i) & (INTERFACES - 1);
		policy = policy_at(slot, skb->ifindex);
	}
	if (policy && is_over(policy))
		policy = policy_at(slot + INTERFACES, skb->ifindex);
	way->policy = policy;
	way->interface_slot = policy ? slot : UNKNOWN_SLOT;
	way->flags = policy ? policy->flags : flags_without_policy(skb);
}

static __always_inline struct interface_addresses *recorded_addresses(__u32 ifindex)
{
	struct interface_addresses *entry;
	__u32 i, slot;

	for (i = 0; i < PROBES; i++) {
		slot = (ifindex + i) & (INTERFACES - 1);
		entry = bpf_map_lookup_elem(MAP(ifindex_ip_map), &slot);
		if (entry && entry->ifindex == ifindex && entry->count)
			return entry;
	}
	return 0;
}

static __always_inline int lists(struct interface_addresses *entry, const union address *address)
{
	__u32 i;

	for (i = 0; i < ADDRESSES && i < entry->count; i++) {
		if (is_equal((const void *)entry->address[i], address))
			return 1;
	}
	return 0;
}

/* ---- who may always pass -------------------------------------------------- */

static __always_inline __u64 host64(__u64 value)
{
	return (__u64)host32((__u32)value) << 32 | host32((__u32)(value >> 32));
}

/* Whether the address lies in the prefix of `length` bits. */
static __always_inline int covers(const __u8 *prefix, __u32 length, const union address *address)
{
	const union address *network = (const void *)prefix;
	__u64 high = host64(network->half[0] ^ address->half[0]);
	__u64 low = host64(network->half[1] ^ address->half[1]);

	if (!length)
		return 1;
	if (length <= 64)
		return !(high >> ((64 - length) & 63));
	return !high && !(low >> ((128 - length) & 63));
}

static __always_inline int is_management(const struct policy *policy, const struct flow *flow)
{
	__u32 i;

	for (i = 0; i < MANAGEMENT && i < policy->management_count; i++) {
		const struct management *entry = &policy->management[i];

		if (entry->protocol != flow->protocol || entry->port != host16(flow->port))
			continue;
		/* A prefix shorter than the mapping is IPv6, ::/0 too, and says nothing of IPv4. */
		if (!flow->ipv6 && entry->source_length < MAPPED_BITS)
			continue;
		if (covers(entry->source, entry->source_length, &flow->source))
			return 1;
	}
	return 0;
}

/* DHCPv6 answers come from the link only: RFC 8415, section 18.4 has them sent to and from link-local addresses. */
static __always_inline int is_dhcp(const struct flow *flow)
{
	if (flow->protocol != IPPROTO_UDP)
		return 0;
	if (!flow->ipv6)
		return flow->source_port == DHCP_SERVER_PORT && flow->port == DHCP_CLIENT_PORT;
	return flow->source_port == DHCPV6_SERVER_PORT && flow->port == DHCPV6_CLIENT_PORT &&
	       is_link_local(&flow->source);
}

/* To a recorded address of the interface, or to any while none is recorded. */
static __always_inline int is_ssh(struct __sk_buff *skb, const struct passage *way, const struct flow *flow)
{
	struct interface_addresses *entry;

	if (flow->protocol != IPPROTO_TCP || flow->port != SSH_PORT || !(way->flags & POLICY_ALLOW_SSH))
		return 0;
	entry = recorded_addresses(skb->ifindex);
	return !entry || lists(entry, &flow->destination);
}

/* ---- whose session it is ---------------------------------------------------- */

/* The tuple of a look-up for a packet of this flow to `address` and `port`; returns its size, which says the family. */
static __always_inline __u32 tuple_of(struct bpf_sock_tuple *tuple, const struct flow *flow,
				       const union address *address, __be16 port)
{
	if (!flow->ipv6) {
		tuple->ipv4.saddr = flow->source.word[3];
		tuple->ipv4.daddr = address->word[3];
		tuple->ipv4.sport = host16(flow->source_port);
		tuple->ipv4.dport = port;
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(tuple->ipv6.saddr, &flow->source, sizeof(flow->source));
	__builtin_memcpy(tuple->ipv6.daddr, address, sizeof(*address));
	tuple->ipv6.sport = host16(flow->source_port);
	tuple->ipv6.dport = port;
	return sizeof(tuple->ipv6);
}

enum session {
	SESSION_NONE,
	SESSION_OPEN,       /* somebody listens, or has an unconnected UDP socket */
	SESSION_OWN,
};

/*
 * TCP in any state but LISTEN (TIME_WAIT included, which must answer a SYN
 * itself), or a connected UDP socket, is a session of this host.  Its packets
 * are left to the stack, whose early demux finds the socket again: assigning
 * it here would cost a route look-up for each packet.
 *
 * The two branches stay apart down to the release: the verifier refuses one
 * load through a sock_common and a sock pointer ("same insn cannot be used
 * with different pointers").
 */
static __always_inline enum session session_of(struct __sk_buff *skb, const struct flow *flow)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = tuple_of(&tuple, flow, &flow->destination, host16(flow->port));
	enum session session;
	struct bpf_sock *sk;

	if (flow->protocol == IPPROTO_TCP) {
		sk = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
		if (!sk)
			return SESSION_NONE;
		session = sk->state == BPF_TCP_LISTEN ? SESSION_OPEN : SESSION_OWN;
		bpf_sk_release(sk);
		return session;
	}
	sk = bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return SESSION_NONE;
	session = sk->dst_port ? SESSION_OWN : SESSION_OPEN;
	bpf_sk_release(sk);
	return session;
}

/* ---- which rule names it ---------------------------------------------------- */

static __always_inline void *image_of(const struct policy *policy)
{
	__u32 generation = policy ? policy->generation : 0;

	return bpf_map_lookup_elem(MAP(image), &generation);
}

static __always_inline struct page *page_of(void *image, __u32 number)
{
	return bpf_map_lookup_elem(image, &number);
}

/* The page that holds the class directory of the interface: page 0 unless rules name it. */
static __always_inline struct page *directory_of(void *image, struct page *head, __u32 ifindex)
{
	struct page *bound = page_of(image, 1);
	__u32 i, at;

	if (!bound)
		return head;
	for (i = 0; i < PROBES; i++) {
		at = ((ifindex + i) & (GROUPED_INTERFACES - 1)) * 2;
		if (bound->word[at] == ifindex)
			return page_of(image, bound->word[at + 1]);
	}
	return head;
}

static __always_inline __u32 leaf_of(__u32 node)
{
	/* A walk that ran out of steps found nothing. */
	return node >> NODE_TAG_SHIFT == NODE_LEAF ? node & NODE_SLOT_MASK : 0;
}

static __always_inline __u32 walk_ipv4(void *image, __u32 node, __u64 fields)
{
	struct page *page;
	int i;

	for (i = 0; i < LOOKUP4_STEPS && node >> NODE_TAG_SHIFT != NODE_LEAF; i++) {
		page = page_of(image, node_page(node));
		if (!page)
			return 0;
		node = next_node(page, node, fields >> 16 * (node >> NODE_FIELD_SHIFT & 3) & 0xffff);
	}
	return leaf_of(node);
}

static __always_inline __u32 walk_ipv6(void *image, __u32 node, const struct flow *flow)
{
	struct page *page;
	__u32 field, x;
	int i;

	for (i = 0; i < LOOKUP6_STEPS && node >> NODE_TAG_SHIFT != NODE_LEAF; i++) {
		page = page_of(image, node_page(node));
		if (!page)
			return 0;
		field = node >> NODE_FIELD_SHIFT & NODE_FIELD_MASK;
		if (field & FIELD6_DPORT)
			x = flow->port;
		else if (field & FIELD6_SADDR)
			x = host16(flow->source.part[field & 7]);
		else
			x = host16(flow->destination.part[field & 7]);
		node = next_node(page, node, x);
	}
	return leaf_of(node);
}

/* Slot of the best rule for the flow, by the class directory's word for its family and protocol. */
static __always_inline __u32 rule_of(void *image, struct page *directory, const struct flow *flow)
{
	__u32 is_udp = flow->protocol == IPPROTO_UDP;
	__u32 destination = host32(flow->destination.word[3]);
	__u32 source = host32(flow->source.word[3]);
	struct page *page;
	__u32 root;

	root = directory->word[GROUP_BASE + (flow->ipv6 ? GROUP_IPV6_TCP : GROUP_IPV4_TCP) + is_udp];
	if (!root)
		return 0;
	if (flow->ipv6)
		return walk_ipv6(image, root, flow);
	page = page_of(image, root + (destination >> 24));
	if (!page)
		return 0;
	return walk_ipv4(image, page->word[destination >> 16 & (PAGE_WORDS - 1)],
			 (__u64)(destination & 0xffff) << 16 * FIELD4_DADDR_LOW |
			 (__u64)flow->port << 16 * FIELD4_DPORT |
			 (__u64)(source >> 16) << 16 * FIELD4_SADDR_HIGH |
			 (__u64)source << 16 * FIELD4_SADDR_LOW);
}

/* Slot of a rule that intercepts something at the destination, whatever the port; for what has no ports. */
static __always_inline __u32 cover_of(void *image, struct page *directory, const struct flow *flow)
{
	__u32 destination = host32(flow->destination.word[3]);
	__u32 node = directory->word[GROUP_BASE + (flow->ipv6 ? GROUP_IPV6_INTERCEPT : GROUP_IPV4_INTERCEPT)];

	if (flow->ipv6)
		return walk_ipv6(image, node, flow);
	return walk_ipv4(image, node,
			 (__u64)(destination & 0xffff) << 16 * INTERCEPT4_DADDR_LOW |
			 (__u64)(destination >> 16) << 16 * INTERCEPT4_DADDR_HIGH);
}

static __always_inline void find_rule(struct __sk_buff *skb, struct passage *way, const struct flow *flow)
{
	void *image = image_of(way->policy);
	struct page *head, *directory, *actions;

	if (!image)
		return;
	head = directory = page_of(image, 0);
	if (!head)
		return;
	if (head->word[HEADER_GROUPS] > 1)
		directory = directory_of(image, head, skb->ifindex);
	if (!directory)
		return;
	way->rule = way->parsed == PARSED_FRAGMENT ? cover_of(image, directory, flow) : rule_of(image, directory, flow);
	if (!way->rule)
		return;
	actions = page_of(image, head->word[HEADER_ACTIONS] + way->rule / ACTIONS_PER_PAGE);
	if (actions)
		way->action = (struct action *)&actions->word[way->rule % ACTIONS_PER_PAGE * ACTION_WORDS];
}

/* ---- what the rule does ------------------------------------------------------- */

static __always_inline void forget_source_port(struct bpf_sock_tuple *tuple, __u32 size)
{
	if (size == sizeof(tuple->ipv4))
		tuple->ipv4.sport = 0;
	else
		tuple->ipv6.sport = 0;
}

static __always_inline struct bpf_sock *listener(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 size)
{
	struct bpf_sock *sk;
	int i;

	for (i = 0; i < 2; i++) {
		sk = bpf_skc_lookup_tcp(skb, tuple, size, BPF_F_CURRENT_NETNS, 0);
		if (!sk || sk->state == BPF_TCP_LISTEN)
			return sk;
		/* The client's own session with the proxy, from the same port: it hides the listener. */
		bpf_sk_release(sk);
		forget_source_port(tuple, size);
	}
	return 0;
}

/* Give the packet to the socket that listens on the rule's proxy address. */
static __always_inline enum reason splice(struct __sk_buff *skb, struct passage *way, const struct flow *flow)
{
	const union address *proxy = (const void *)way->action->tproxy_ip;
	struct bpf_sock_tuple tuple = {};
	__u32 size = tuple_of(&tuple, flow, proxy, way->action->tproxy_port);
	struct bpf_sock *sk;

	if (flow->protocol == IPPROTO_TCP) {
		sk = listener(skb, &tuple, size);
		if (!sk)
			return REASON_NO_LISTENER;
		way->error = bpf_sk_assign(skb, sk, 0);
		bpf_sk_release(sk);
	} else {
		sk = bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
		if (!sk)
			return REASON_NO_LISTENER;
		way->error = bpf_sk_assign(skb, sk, 0);
		bpf_sk_release(sk);
	}
	return way->error ? REASON_ASSIGN_ERROR : REASON_SPLICED;
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

/* ---- the packet's life ---------------------------------------------------------- */

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
