/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * BCC gives every source struct __sk_buff and the helpers of the kernel. This is
 * the same for another compiler. The rest comes from the kernel's own headers
 * (linux-libc-dev), not from bpf/stubs.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

/* A helper is a call of a number: include/uapi/linux/bpf.h, enum bpf_func_id. */
#define HELPER(result, name, ...) \
	static result (*const bpf_##name)(__VA_ARGS__) = (void *)BPF_FUNC_##name

HELPER(void *, map_lookup_elem, void *map, const void *key);
HELPER(long, map_update_elem, void *map, const void *key, const void *value, __u64 flags);
HELPER(__u64, ktime_get_ns, void);
HELPER(__u64, jiffies64, void);
HELPER(__u32, get_smp_processor_id, void);
HELPER(long, skb_load_bytes, const struct __sk_buff *skb, __u32 offset, void *to, __u32 length);
HELPER(long, skb_change_type, struct __sk_buff *skb, __u32 type);
HELPER(long, fib_lookup, void *ctx, struct bpf_fib_lookup *params, int size, __u32 flags);
HELPER(long, skb_pull_data, struct __sk_buff *skb, __u32 length);
HELPER(struct bpf_sock *, skc_lookup_tcp, struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
       __u32 size, __u64 netns, __u64 flags);
HELPER(struct bpf_sock *, sk_lookup_udp, struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
       __u32 size, __u64 netns, __u64 flags);
HELPER(long, sk_assign, void *ctx, void *sk, __u64 flags);
HELPER(__u64, get_socket_cookie, struct __sk_buff *skb);
HELPER(__u32, get_socket_uid, struct __sk_buff *skb);
HELPER(long, sk_release, void *sk);

#undef HELPER

/* The intrinsic of LLVM loads a number, of a kind such as BPF_PSEUDO_MAP_FD. */
__u64 bpf_pseudo_fd(__u64 kind, __u64 number) __asm__("llvm.bpf.pseudo");
