/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The policy of an interface, the addresses of this host, and the packets that a
 * policy accepts before any rule.
 */
#ifndef TPROXY_POLICY_H
#define TPROXY_POLICY_H

#include <linux/if_ether.h>

#include "../maps.h"
#include "ctx.h"

enum ports {
	SSH_PORT = 22,
	DHCP_SERVER_PORT = 67, /* RFC 2131, section 4.1 */
	DHCP_CLIENT_PORT = 68,
	DHCPV6_SERVER_PORT = 547, /* RFC 8415, section 7.2 */
	DHCPV6_CLIENT_PORT = 546,
};

/* Numbers of the kernel, without the headers of user space that have them. */
enum kernel_number {
	FAMILY_INET = 2,	   /* AF_INET */
	PACKET_TYPE_OTHERHOST = 3, /* PACKET_OTHERHOST */
};

/*
 * User space replaces a policy by one map update, which is a memcpy()
 * (array_map_update_elem() in kernel/bpf/arraymap.c). So a packet on another
 * CPU can see a part of the old policy and a part of the new one. This is
 * benign. It lasts for the copy alone. Each flag, mark and count is an old or a
 * new one. The count comes before the entries, and an entry of zeros matches
 * nothing, since no protocol of a flow is 0. An entry that is half copied can
 * accept or miss one packet, and no session depends on one packet.
 */
static __always_inline struct policy *policy_at(__u32 slot, __u32 ifindex)
{
	struct policy *policy = bpf_map_lookup_elem(MAP(policy), &slot);

	return policy && policy->ifindex == ifindex ? policy : NULL;
}

/*
 * The confirm deadline: a change that the operator did not confirm in time ends
 * here, whether or not the process that rolls it back is alive.
 */
static __always_inline bool deadline_passed(const struct policy *policy)
{
	return policy->deadline && bpf_ktime_get_ns() > policy->deadline;
}

/*
 * Return the flags of an interface without a policy: an operator removed it by
 * hand. The interface accepts SSH and flows of rules only, so it is neither open
 * nor locked.
 *
 * An Ethernet header ends with the protocol that the kernel knows. A packet of a
 * layer 3 device has bytes of an address there. Without a branch: the verifier
 * would follow both paths through the whole program.
 */
static __always_inline __u32 flags_without_policy(struct __sk_buff *skb)
{
	__be16 protocol = 0;
	__u32 difference;

	bpf_skb_load_bytes(skb, ETH_HLEN - sizeof(protocol), &protocol, sizeof(protocol));
	difference = protocol ^ skb->protocol;
	return POLICY_ALLOW_SSH | (-difference >> 31) * POLICY_LAYER3;
}

/* Return the slot of an entry that is not in its home slot; 0 for none, whose entry is another's. */
static __always_inline __u32 displaced_slot(enum interface_table table, __u32 ifindex)
{
	struct displaced_key key = { .table = table, .ifindex = ifindex };
	__u32 *slot = bpf_map_lookup_elem(MAP(displaced), &key);

	return slot ? *slot & (INTERFACES - 1) : 0;
}

static __always_inline void find_policy(struct pkt_ctx *ctx, __u32 ifindex)
{
	__u32 slot = ifindex & (INTERFACES - 1);
	struct policy *policy = policy_at(slot, ifindex);

	if (!policy) {
		slot = displaced_slot(TABLE_POLICY, ifindex);
		policy = policy_at(slot, ifindex);
	}
	if (policy && deadline_passed(policy))
		policy = policy_at(slot + INTERFACES, ifindex);
	ctx->policy = policy;
	ctx->interface_slot = policy ? slot : UNKNOWN_SLOT;
}

static __always_inline void lookup_policy(struct __sk_buff *skb, struct pkt_ctx *ctx)
{
	find_policy(ctx, skb->ifindex);
	ctx->flags = ctx->policy ? ctx->policy->flags : flags_without_policy(skb);
}

/*
 * Return the enum address_kind of an address. User space keeps the map: the
 * addresses of the interfaces, and the recorded ones. The program asks no route
 * table, since a local route there can be that of an intercept (docs/SEMANTICS.md).
 */
static __always_inline __u32 lookup_kind(const union ip_addr *addr)
{
	__u32 *kind = bpf_map_lookup_elem(MAP(own_addresses), addr);

	return addr_kind(addr) | (kind ? *kind : 0);
}

/* Return whether a port belongs to a service by which operators reach this host. User space keeps the map. */
static __always_inline bool is_reserved(const struct flow *flow)
{
	__u32 zero = 0, byte = (flow->dport >> 3) & (RESERVED_BYTES - 1);
	struct reserved_ports *ports = bpf_map_lookup_elem(MAP(reserved_ports), &zero);
	const __u8 *bits;

	if (!ports)
		return false;
	bits = flow->protocol == IPPROTO_TCP ? ports->tcp : ports->udp;
	return bits[byte] >> (flow->dport & 7) & 1;
}

/* True for an address of this host, and for a group that it can be in. */
static __always_inline bool is_for_host(__u32 kind)
{
	return kind & (ADDRESS_OWN | ADDRESS_GROUP);
}

static __always_inline bool is_own(__u32 kind)
{
	return (kind & (ADDRESS_OWN | ADDRESS_GROUP)) == ADDRESS_OWN;
}

/* True for ICMP to this host, or to a link-local address, to which no router forwards. */
static __always_inline bool icmp_is_for_host(const struct flow *flow)
{
	return addr_is_link_local(&flow->daddr) || is_for_host(lookup_kind(&flow->daddr));
}

/* Return 1 for a match, else 0. A protocol without ports has its number as port, on both sides. */
static __always_inline __u32 management_matches(const struct management *entry,
						const struct flow *flow)
{
	__s64 beyond_mapping = (__s64)entry->source_length - V4MAPPED_PREFIX_LEN;

	if ((entry->protocol ^ flow->protocol) | (entry->port ^ bpf_htons(flow->dport)))
		return 0;
	/* A prefix shorter than the mapping is IPv6, ::/0 too: it does not include IPv4. */
	return prefix_contains(entry->source, entry->source_length, &flow->saddr) &
	       (flow->ipv6 | is_zero(beyond_mapping >> 63));
}

/* Go on behind a match: the verifier would follow the rest of the program from each round. */
static __always_inline bool is_management(const struct policy *policy, const struct flow *flow)
{
	__u32 i, matches = 0;

	for (i = 0; i < MANAGEMENT && i < policy->management_count; i++)
		matches |= management_matches(&policy->management[i], flow);
	return matches;
}

/* RFC 8415, section 18.4: answers of DHCPv6 have link-local addresses. */
static __always_inline bool is_dhcp(const struct flow *flow)
{
	if (flow->protocol != IPPROTO_UDP)
		return false;
	if (!flow->ipv6)
		return flow->sport == DHCP_SERVER_PORT && flow->dport == DHCP_CLIENT_PORT;
	return flow->sport == DHCPV6_SERVER_PORT && flow->dport == DHCPV6_CLIENT_PORT &&
	       addr_is_link_local(&flow->saddr);
}

static __always_inline bool is_ssh(const struct pkt_ctx *ctx, const struct flow *flow)
{
	return flow->protocol == IPPROTO_TCP && flow->dport == SSH_PORT &&
	       ctx->flags & POLICY_ALLOW_SSH;
}

/* Return whether the stack would forward the packet to another host. */
static __always_inline bool is_forwarded(struct __sk_buff *skb, const struct flow *flow)
{
	struct bpf_fib_lookup route = {
		.family = FAMILY_INET,
		.ifindex = skb->ifindex,
		.ipv4_src = flow->saddr.addr32[3],
		.ipv4_dst = flow->daddr.addr32[3],
	};
	long found = bpf_fib_lookup(skb, &route, sizeof(route), 0);

	return found == BPF_FIB_LKUP_RET_SUCCESS || found == BPF_FIB_LKUP_RET_NO_NEIGH;
}

/*
 * A server sends its offer to an address that the client has not got yet (RFC 2131,
 * section 4.1). The client reads it by a packet socket. A packet of another host's
 * link address reaches such sockets only, so the stack forwards it to nobody.
 */
static __always_inline enum reason hand_to_dhcp_client(struct __sk_buff *skb,
						       const struct flow *flow)
{
	if (is_forwarded(skb, flow))
		bpf_skb_change_type(skb, PACKET_TYPE_OTHERHOST);
	return REASON_DHCP;
}

/* The services that a flow can ask for. More than one, for example SSH by a management entry. */
enum service {
	SERVICE_MANAGEMENT = 1,
	SERVICE_DHCP = 2,
	SERVICE_SSH = 4,
};

/* Return the reason why a flow to this host passes before any rule is asked; REASON_OTHER for none. */
static __always_inline enum reason
accepted_service(struct __sk_buff *skb, const struct pkt_ctx *ctx, const struct flow *flow)
{
	__u32 asked = 0, kind;

	if (ctx->policy && is_management(ctx->policy, flow))
		asked |= SERVICE_MANAGEMENT;
	if (is_dhcp(flow))
		asked |= SERVICE_DHCP;
	if (is_ssh(ctx, flow))
		asked |= SERVICE_SSH;
	asked = forget(skb, asked);
	if (!asked)
		return REASON_OTHER;
	kind = lookup_kind(&flow->daddr);
	if (asked & SERVICE_MANAGEMENT && is_for_host(kind))
		return REASON_MANAGEMENT;
	if (asked & SERVICE_DHCP && (is_for_host(kind) || addr_is_link_local(&flow->daddr)))
		return REASON_DHCP;
	if (asked & SERVICE_DHCP && !flow->ipv6 && !flow->fragment)
		return hand_to_dhcp_client(skb, flow);
	return asked & SERVICE_SSH && is_own(kind) ? REASON_SSH : REASON_OTHER;
}

#endif
