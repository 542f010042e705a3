/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * One step of the walk through the rule image, inside one page.  Pure
 * arithmetic: the program fetches the page.  Every offset is masked to the
 * page, so the verifier needs no proof about the image's contents.
 */
#ifndef TPROXY_WALK_H
#define TPROXY_WALK_H

#include "parse.h"

struct page {
	tp_u32 word[PAGE_WORDS];
};

enum node_bits {
	NODE_TAG_SHIFT = 30,
	NODE_CLASS_SHIFT = 28,
	NODE_FIELD_SHIFT = 23,
	NODE_FIELD_MASK = 31,
	NODE_POINTER = 0x7fffff,
	NODE_SLOT = 0x3fffffff,
	UNITS_PER_PAGE_SHIFT = 6,       /* a SEARCH node's pointer counts units of 16 bytes */
	UNIT_SHIFT = 4,
	PAGE_BYTES = 1024,
};

/* 1 when key j is not above x, else 0. */
static __always_inline tp_u64 at_most(const char *page, tp_u64 base, tp_u64 j, tp_u32 x)
{
	tp_u64 difference = (tp_u64) * (const tp_u16 *)(page + ((base + 2 * j) & (PAGE_BYTES - 2))) - x - 1;

	OPAQUE(difference);     /* else the compiler makes it an unpredictable branch */
	return difference >> 63;
}

/* Index of the last of 4 << width keys that is not above x; key 0 is 0. */
static __always_inline tp_u64 search(const char *page, tp_u64 base, tp_u32 width, tp_u32 x)
{
	tp_u64 i = 0;

	if (!width)
		return at_most(page, base, 1, x) + at_most(page, base, 2, x) + at_most(page, base, 3, x);
	if (width >= 3)
		i += at_most(page, base, i + 16, x) * 16;
	if (width >= 2)
		i += at_most(page, base, i + 8, x) * 8;
	i += at_most(page, base, i + 4, x) * 4;
	i += at_most(page, base, i + 2, x) * 2;
	i += at_most(page, base, i + 1, x);
	return i;
}

static __always_inline tp_u32 node_page(tp_u32 node)
{
	tp_u32 pointer = node & NODE_POINTER;

	return node >> NODE_TAG_SHIFT == NODE_SEARCH ? pointer >> UNITS_PER_PAGE_SHIFT : pointer;
}

/* The node that follows `node`, which is no leaf, when its field holds x. */
static __always_inline tp_u32 next_node(const struct page *page, tp_u32 node, tp_u32 x)
{
	tp_u32 tag = node >> NODE_TAG_SHIFT;
	tp_u32 width = node >> NODE_CLASS_SHIFT & 3;
	const char *bytes = (const char *)page;
	tp_u64 base, values;

	if (tag != NODE_SEARCH)
		return page->word[(tag == NODE_HIGH ? x >> 8 : x) & (PAGE_WORDS - 1)];
	base = (tp_u64)(node & ((1 << UNITS_PER_PAGE_SHIFT) - 1)) << UNIT_SHIFT;
	values = base + (8ULL << width);
	return *(const tp_u32 *)(bytes + ((values + 4 * search(bytes, base, width, x)) & (PAGE_BYTES - 4)));
}

#endif
