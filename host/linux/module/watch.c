// SPDX-License-Identifier: MIT OR GPL-2.0
/* Watches the walks of the request under test, and its calls of the out-of-memory killer. */
#include <linux/gfp.h>
#include <linux/kprobes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "lab.h"

#ifndef CONFIG_X86_64
#error "the probes read the arguments of x86-64"
#endif

/*
 * The allocator's context of a request begins with these fields, from 5.10 to 7.2. They are tried at
 * load time with a request whose values are known; if they differ, the module does not load.
 */
struct context_head {
	struct zonelist *zonelist;
	nodemask_t *nodemask;
	struct zoneref *preferred;
	int migratetype;
	int highest;
};

int list_copy(struct entry *to, const struct zonelist *list)
{
	const struct zoneref *ref;
	int n = 0;

	for (ref = list->_zonerefs; ref->zone && n < ENTRIES; ref++, n++) {
		to[n].zone = ref->zone->name;
		to[n].index = ref->zone_idx;
		to[n].node = zone_to_nid(ref->zone);
		to[n].free = zone_page_state(ref->zone, NR_FREE_PAGES);
	}
	return n;
}

struct zonelist *own_list(void)
{
	return &NODE_DATA(0)->node_zonelists[0];
}

/* Says whether a walk from the first entry would find a page: free above MIN and the reserve. */
static bool fresh_walk_serves(const struct zonelist *list, int highest)
{
	const struct zoneref *ref;

	for (ref = list->_zonerefs; ref->zone; ref++) {
		unsigned long need;

		if (ref->zone_idx > highest)
			continue;
		need = min_wmark_pages(ref->zone) + ref->zone->lowmem_reserve[highest];
		if (zone_page_state(ref->zone, NR_FREE_PAGES) > need)
			return true;
	}
	return false;
}

/* The thread that tries the layout at load time. */
static struct task_struct *trial;
static bool trial_seen, trial_fits;

static const struct context_head *head_of(struct pt_regs *regs)
{
	/* The fourth argument. */
	unsigned long at = regs->cx;

	return (const void *)(at + (plant == 1 ? sizeof(long) : 0));
}

static int walk_begins(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct walk *walk = (void *)instance->data;
	const struct context_head *head;
	struct context_head copy;

	if (current == READ_ONCE(trial)) {
		trial_seen = true;
		if (!copy_from_kernel_nofault(&copy, head_of(regs), sizeof(copy)))
			trial_fits = copy.zonelist == own_list() &&
				     copy.highest == gfp_zone(GFP_KERNEL) &&
				     copy.preferred >= copy.zonelist->_zonerefs &&
				     copy.preferred < copy.zonelist->_zonerefs + MAX_ZONES_PER_ZONELIST;
		return 1;
	}
	if (current != READ_ONCE(held.thread))
		return 1;
	head = head_of(regs);
	walk->start = head->preferred - head->zonelist->_zonerefs;
	walk->index = head->preferred->zone_idx;
	walk->zone = head->preferred->zone ? head->preferred->zone->name : "none";
	walk->highest = head->highest;
	walk->after = READ_ONCE(held.go);
	walk->fresh = fresh_walk_serves(head->zonelist, head->highest);
	return 0;
}

static int walk_ends(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct walk *walk = (void *)instance->data;
	struct page *page = (void *)regs_return_value(regs);

	walk->has_page = page;
	walk->got = page ? page_zone(page)->name : "none";
	if (walk->after && !page && walk->fresh)
		held.stale++;
	walk->n = held.walks++;
	/* The last place is the last walk's. */
	held.log[min(walk->n, WALKS - 1u)] = *walk;
	return 0;
}

static struct kretprobe walks = {
	.kp.symbol_name = "get_page_from_freelist",
	.entry_handler = walk_begins,
	.handler = walk_ends,
	.data_size = sizeof(struct walk),
	.maxactive = 64,
};

static int oom_asked(struct kprobe *probe, struct pt_regs *regs)
{
	if (current == READ_ONCE(held.thread) && READ_ONCE(held.go)) {
		held.oom++;
		if (fresh_walk_serves(own_list(), gfp_zone(GFP_KERNEL)))
			held.oom_fresh++;
	}
	return 0;
}

static struct kprobe oom = { .symbol_name = "out_of_memory", .pre_handler = oom_asked };

/* Makes one request whose context is known, and looks whether the probe reads the known values. */
static bool layout_is_known(void)
{
	struct page *page;

	WRITE_ONCE(trial, current);
	page = alloc_pages_node(0, GFP_KERNEL, 0);
	WRITE_ONCE(trial, NULL);
	if (page)
		__free_page(page);
	return page && trial_seen && trial_fits;
}

/* Sets the probes. They stay only if they read what they are known to have to read. */
int watch_begin(void)
{
	int error = register_kretprobe(&walks);

	if (error) {
		pr_err(NAME ": refused: get_page_from_freelist cannot be probed\n");
		return error;
	}
	error = register_kprobe(&oom);
	if (error) {
		unregister_kretprobe(&walks);
		pr_err(NAME ": refused: out_of_memory cannot be probed\n");
		return error;
	}
	if (layout_is_known())
		return 0;
	watch_end();
	pr_err(NAME ": refused: the allocator's context is laid out otherwise than in the releases that the module knows\n");
	return -EOPNOTSUPP;
}

void watch_end(void)
{
	unregister_kretprobe(&walks);
	unregister_kprobe(&oom);
}
