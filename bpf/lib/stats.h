/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Counters.
 */
#ifndef TPROXY_STATS_H
#define TPROXY_STATS_H

#include "../maps.h"
#include "compiler.h"

/*
 * Counters are per CPU and not atomic. On most kernels no other packet can
 * interrupt this on the same CPU, since softirqs do not nest. Under PREEMPT_RT
 * softirqs can be preempted: then a count can get lost, but never invented.
 */
static __always_inline void count_packet(void *map, __u32 index, __u32 bytes)
{
	struct counter *counter = bpf_map_lookup_elem(map, &index);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

#endif
