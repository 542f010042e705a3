/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The lookup of the original splicer, for comparison. It is new code from the
 * published description: 33 hash probes from /32 down to /0, in each prefix the
 * ranges through an index table, then the next shorter prefix if no range has
 * the port. Without the trace output for each match.
 */
#ifndef TPROXY_BENCH_ORIGINAL_H
#define TPROXY_BENCH_ORIGINAL_H

#include "bench.h"

enum original {
	ORIGINAL_INTERFACES = 50,
};

struct original_key {
	__u32 destination; /* network order */
	__u16 length;
	__u16 protocol;
};

struct original_range {
	__u16 low; /* network order */
	__u16 high;
	__be16 proxy_port;
	__u32 proxy_ip;
};

/* As published: the range is at the index of its low port, 65536 places, 786 KB. */
struct original_ranges {
	__u16 count;
	__u16 index[ORIGINAL_RANGES];
	struct original_range range[ORIGINAL_PLACES];
};

struct original_address {
	__u32 address;
	char name[INTERFACE_NAME];
};

static __always_inline struct original_range *original_range_of(struct original_ranges *ranges,
								__u16 port)
{
	__u32 i, place;

	for (i = 0; i < ORIGINAL_RANGES && i < ranges->count; i++) {
		place = ranges->index[i];
		if (place >= ORIGINAL_PLACES)
			continue;
		if (port >= bpf_ntohs(ranges->range[place].low) &&
		    port <= bpf_ntohs(ranges->range[place].high))
			return &ranges->range[place];
	}
	return 0;
}

/* `destination` in network order, `port` in host order. */
static __always_inline struct original_range *original_find(__u32 destination, __u16 port,
							    __u8 protocol)
{
	struct original_ranges *ranges;
	struct original_range *range;
	__u32 i, mask;

	for (i = 0; i <= 32; i++) {
		mask = i == 32 ? 0 : 0xffffffff << i;
		struct original_key key = { destination & bpf_htonl(mask), 32 - i, protocol };

		ranges = bpf_map_lookup_elem(MAP(original), &key);
		if (!ranges)
			continue;
		range = original_range_of(ranges, port);
		if (range)
			return range;
	}
	return 0;
}

#endif
