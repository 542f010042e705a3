/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The source of live frames: an XDP program in a test run with real delivery.
 * It writes the next flow of the table into the frame and passes it to the stack
 * of the interface.
 */
#include "bench.h"

int generate(struct xdp_md *frame)
{
	struct iphdr *ip = (void *)(long)frame->data + ETH_HLEN;
	struct udphdr *ports = (void *)(ip + 1);
	__u32 index;
	struct target *target = next_target(&index);

	if (!target || (void *)(ports + 1) > (void *)(long)frame->data_end)
		return XDP_DROP;
	ip->daddr = target->destination;
	ip->saddr = target->source;
	ip->check = target->checksum;
	ports->source = target->source_port;
	ports->dest = target->port;
	return XDP_PASS;
}

/* On the interface itself: it has a receive queue for such frames only while it has an XDP program. */
int let_in(struct xdp_md *frame)
{
	return XDP_PASS;
}
