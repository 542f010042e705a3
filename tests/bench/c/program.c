/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whole programs: this collection's and the original's. The functions with
 * _random in their name first write the next flow of the table into the packet.
 */
#include "original.h"

/* Each packet of targets.py has space for the larger of the two transport headers. */
static __always_inline struct target *put_target(struct __sk_buff *skb)
{
	struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;
	struct udphdr *ports = (void *)(ip + 1);
	__u32 index;
	struct target *target = next_target(&index);

	if (!target || (void *)(ports + 1) > (void *)(long)skb->data_end)
		return 0;
	ip->daddr = target->destination;
	ip->saddr = target->source;
	ip->protocol = target->protocol;
	ports->source = target->source_port;
	ports->dest = target->port;
	return target;
}

static __always_inline struct original_address *original_address_of(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;

	return bpf_map_lookup_elem(MAP(original_addresses), &ifindex);
}

static __always_inline int original_assign(struct __sk_buff *skb, struct bpf_sock *sk)
{
	long error = bpf_sk_assign(skb, sk, 0);

	bpf_sk_release(sk);
	return error ? TC_ACT_SHOT : TC_ACT_OK;
}

/* Its stateful check assigns the packet to the socket of an established flow. */
static __always_inline int original_session(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
					    __u8 protocol)
{
	struct bpf_sock *sk;

	if (protocol == IPPROTO_TCP) {
		sk = bpf_skc_lookup_tcp(skb, tuple, sizeof(tuple->ipv4), BPF_F_CURRENT_NETNS, 0);
		if (!sk)
			return TC_ACT_UNSPEC;
		if (sk->state != BPF_TCP_LISTEN)
			return original_assign(skb, sk);
		bpf_sk_release(sk);
		return TC_ACT_UNSPEC;
	}
	sk = bpf_sk_lookup_udp(skb, tuple, sizeof(tuple->ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return TC_ACT_UNSPEC;
	if (sk->dst_port)
		return original_assign(skb, sk);
	bpf_sk_release(sk);
	return TC_ACT_UNSPEC;
}

static __always_inline int original_splice(struct __sk_buff *skb, struct original_range *range,
					   __u8 protocol)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;

	tuple.ipv4.daddr = range->proxy_ip;
	tuple.ipv4.dport = range->proxy_port;
	if (protocol == IPPROTO_TCP) {
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
		if (!sk)
			return TC_ACT_SHOT;
		if (sk->state != BPF_TCP_LISTEN) {
			bpf_sk_release(sk);
			return TC_ACT_SHOT;
		}
		return original_assign(skb, sk);
	}
	sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	return sk ? original_assign(skb, sk) : TC_ACT_SHOT;
}

static __always_inline int original_program(struct __sk_buff *skb)
{
	struct ethhdr *ethernet = (void *)(long)skb->data;
	struct iphdr *ip = (void *)(ethernet + 1);
	struct udphdr *ports = (void *)(ip + 1);
	struct original_address *own = original_address_of(skb);
	struct bpf_sock_tuple tuple = {};
	struct original_range *range;
	__u8 protocol;
	int verdict;

	if ((void *)(ports + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	if (ethernet->h_proto != bpf_htons(ETH_P_IP))
		return ethernet->h_proto == bpf_htons(ETH_P_ARP) ? TC_ACT_OK : TC_ACT_SHOT;
	protocol = ip->protocol;
	if (ip->ihl != 5 || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
		return TC_ACT_SHOT;
	tuple.ipv4.saddr = ip->saddr;
	tuple.ipv4.daddr = ip->daddr;
	tuple.ipv4.sport = ports->source;
	tuple.ipv4.dport = ports->dest;
	if (protocol == IPPROTO_TCP && tuple.ipv4.dport == bpf_htons(SSH_PORT) &&
	    (!own || !own->address || own->address == tuple.ipv4.daddr))
		return TC_ACT_OK;
	if (protocol == IPPROTO_UDP && tuple.ipv4.sport == bpf_htons(DHCP_SERVER_PORT) &&
	    tuple.ipv4.dport == bpf_htons(DHCP_CLIENT_PORT))
		return TC_ACT_OK;
	verdict = original_session(skb, &tuple, protocol);
	if (verdict != TC_ACT_UNSPEC)
		return verdict;
	range = original_find(tuple.ipv4.daddr, bpf_ntohs(tuple.ipv4.dport), protocol);
	if (!range)
		return TC_ACT_SHOT;
	if (own && own->address == tuple.ipv4.daddr)
		return TC_ACT_OK;
	return original_splice(skb, range, protocol);
}

int original_splicer(struct __sk_buff *skb)
{
	return original_program(skb);
}

int nothing_random(struct __sk_buff *skb)
{
	struct target *target = put_target(skb);

	if (!target)
		return TC_ACT_SHOT;
	target->answer = TC_ACT_OK;
	return TC_ACT_OK;
}

int ours_random(struct __sk_buff *skb)
{
	struct target *target = put_target(skb);

	if (!target)
		return TC_ACT_SHOT;
	target->answer = whole_program(skb);
	return TC_ACT_OK;
}

int original_random(struct __sk_buff *skb)
{
	struct target *target = put_target(skb);

	if (!target)
		return TC_ACT_SHOT;
	target->answer = original_program(skb);
	return TC_ACT_OK;
}
