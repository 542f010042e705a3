/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The source of live frames: an XDP program in a test run with real delivery. It
 * writes the next packet of a table into the frame and passes it to the stack of
 * the interface. The packets of a table have one length, as the frame has.
 */
#include "bench.h"

struct packet_of_table {
	__u64 part[9];
};

static __always_inline int replay(struct xdp_md *frame, int length)
{
	char *ip = (void *)(long)frame->data + ETH_HLEN;
	struct progress *at = progress();
	struct packet_of_table *packet;
	__u32 index;
	int i;

	if (!at || (void *)(ip + length) > (void *)(long)frame->data_end)
		return XDP_DROP;
	index = at->runs++ & (TARGETS - 1);
	packet = bpf_map_lookup_elem(MAP(frames), &index);
	if (!packet)
		return XDP_DROP;
	for (i = 0; i < length / 8; i++)
		*(__u64 *)(ip + 8 * i) = packet->part[i];
	if (length & 4)
		*(__u32 *)(ip + 8 * i) = packet->part[i];
	if (length & 2)
		*(__u16 *)(ip + (length & ~3)) = packet->part[i] >> (length & 4 ? 32 : 0);
	return XDP_PASS;
}

/* The lengths are those of packets.py. */
int replay_46(struct xdp_md *frame)
{
	return replay(frame, 46);
}

int replay_52(struct xdp_md *frame)
{
	return replay(frame, 52);
}

int replay_66(struct xdp_md *frame)
{
	return replay(frame, 66);
}

int replay_72(struct xdp_md *frame)
{
	return replay(frame, 72);
}

/* On the interface itself: it has a receive queue for such frames only while it has an XDP program. */
int let_in(struct xdp_md *frame)
{
	return XDP_PASS;
}
