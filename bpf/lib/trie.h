/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * Lookups in the rule image, from node to node (abi.h).
 *
 * Every offset is masked to the page, so the verifier needs no proof about the
 * contents of an image.
 */
#ifndef TPROXY_TRIE_H
#define TPROXY_TRIE_H

#include "../maps.h"
#include "packet.h"

struct page {
	__u32 word[PAGE_WORDS];
};

static __always_inline struct page *image_page(void *image, __u32 number)
{
	return bpf_map_lookup_elem(image, &number);
}

/* Return 1 if key j is less than or equal to x, else 0. */
static __always_inline __u64 key_le(const char *page, __u64 base, __u64 j, __u32 x)
{
	__u64 key = *(const __u16 *)(page + ((base + 2 * j) & (PAGE_BYTES - 2)));
	__u64 difference = key - x - 1;

	/* Without it the compiler makes this a branch, which the CPU cannot predict. */
	barrier_var(difference);
	return difference >> 63;
}

/* Return the index of the last of 4 << width keys that is <= x; key 0 is 0. */
static __always_inline __u64 search_keys(const char *page, __u64 base, __u32 width, __u32 x)
{
	__u64 i = 0;

	if (!width)
		return key_le(page, base, 1, x) + key_le(page, base, 2, x) +
		       key_le(page, base, 3, x);
	if (width >= 3)
		i += key_le(page, base, i + 16, x) * 16;
	if (width >= 2)
		i += key_le(page, base, i + 8, x) * 8;
	i += key_le(page, base, i + 4, x) * 4;
	i += key_le(page, base, i + 2, x) * 2;
	i += key_le(page, base, i + 1, x);
	return i;
}

static __always_inline bool is_leaf(__u32 node)
{
	return node >> NODE_TAG_SHIFT == NODE_LEAF;
}

static __always_inline __u32 node_page(__u32 node)
{
	__u32 pointer = node & NODE_POINTER_MASK;

	return node >> NODE_TAG_SHIFT == NODE_SEARCH ? pointer >> UNITS_PER_PAGE_SHIFT : pointer;
}

/* Return the node that follows `node`, which is no leaf, if its field is x. */
static __always_inline __u32 node_step(const struct page *page, __u32 node, __u32 x)
{
	__u32 tag = node >> NODE_TAG_SHIFT;
	__u32 width = node >> NODE_WIDTH_SHIFT & NODE_WIDTH_MASK;
	const char *bytes = (const char *)page;
	__u64 base, values;

	if (tag != NODE_SEARCH)
		return page->word[(tag == NODE_HIGH ? x >> 8 : x) & (PAGE_WORDS - 1)];
	base = (__u64)(node & ((1 << UNITS_PER_PAGE_SHIFT) - 1)) << UNIT_SHIFT;
	values = base + (8ULL << width);
	values += 4 * search_keys(bytes, base, width, x);
	return *(const __u32 *)(bytes + (values & (PAGE_BYTES - 4)));
}

/* Return the rule slot of the last node of a lookup; 0 if the lookup ran out of steps. */
static __always_inline __u32 leaf_rule(__u32 node)
{
	return is_leaf(node) ? node & NODE_SLOT_MASK : 0;
}

/*
 * The field of a packet that a node compares. IPv4 has four, in `fields` from the
 * low end: enum field, or enum cover_field.
 */
static __always_inline __u32 packet_field(const struct flow *flow, __u64 fields, __u32 number)
{
	if (!flow->ipv6)
		return fields >> 16 * (number & 3) & 0xffff;
	if (number & FIELD6_DPORT)
		return flow->dport;
	if (number & FIELD6_SADDR)
		return bpf_ntohs(flow->saddr.addr16[number & 7]);
	return bpf_ntohs(flow->daddr.addr16[number & 7]);
}

/* One loop for both families: a second one would double the work of the verifier. */
static __always_inline __u32 lookup_node(void *image, __u32 node, const struct flow *flow,
					 __u64 fields)
{
	struct page *page;
	__u32 number;
	int i;

	for (i = 0; i < LOOKUP6_STEPS && !is_leaf(node); i++) {
		page = image_page(image, node_page(node));
		if (!page)
			return 0;
		number = node >> NODE_FIELD_SHIFT & NODE_FIELD_MASK;
		node = node_step(page, node, packet_field(flow, fields, number));
	}
	return leaf_rule(node);
}

#endif
