/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Live frames from a table of whole IP packets, as generate.c has them from a table of flows. */
#include "bench.h"

enum packet {
	PACKET_BYTES = 52, /* an ACK with timestamps */
};

struct packet_of_table {
	__u64 part[8];
};

int replay(struct xdp_md *frame)
{
	char *ip = (void *)(long)frame->data + ETH_HLEN;
	struct progress *at = progress();
	struct packet_of_table *packet;
	__u32 index;
	int i;

	if (!at || (void *)(ip + PACKET_BYTES) > (void *)(long)frame->data_end)
		return XDP_DROP;
	index = at->runs++ & (TARGETS - 1);
	packet = bpf_map_lookup_elem(MAP(frames), &index);
	if (!packet)
		return XDP_DROP;
	for (i = 0; i < PACKET_BYTES / 8; i++)
		*(__u64 *)(ip + 8 * i) = packet->part[i];
	*(__u32 *)(ip + 8 * i) = packet->part[i];
	return XDP_PASS;
}
