// SPDX-License-Identifier: MIT OR GPL-2.0
/* Holds one request in its direct reclaim: a shrinker that sleeps, and the thread that asks. */
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/version.h>

#include "lab.h"

/* The longest that a command waits for the request: emulated CPUs may be slow. */
#define PATIENCE (100 * HZ)

struct held_request held;

/* Pages that were taken to make memory scarce, chained by their lru. */
static LIST_HEAD(taken);
static unsigned long taken_count;

static unsigned long hold_count(struct shrinker *shrinker, struct shrink_control *control)
{
	return current == READ_ONCE(held.thread) ? 1ul << 20 : 0;
}

static void report_progress(void)
{
	if (!current->reclaim_state)
		return;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
	current->reclaim_state->reclaimed_slab += 32;
#else
	current->reclaim_state->reclaimed += 32;
#endif
}

static unsigned long hold_scan(struct shrinker *shrinker, struct shrink_control *control)
{
	if (current != READ_ONCE(held.thread))
		return SHRINK_STOP;
	held.rounds++;
	if (!held.sleeps) {
		held.entries_before = list_copy(held.before, own_list());
		WRITE_ONCE(held.sleeps, true);
		complete(&held.asleep);
		while (!READ_ONCE(held.go) && !kthread_should_stop())
			schedule_timeout_uninterruptible(1);
	} else if (READ_ONCE(held.go) && ++held.rounds_after > most_rounds) {
		WRITE_ONCE(held.progress, false);
	}
	if (READ_ONCE(held.progress))
		report_progress();
	return SHRINK_STOP;
}

/* Its registration has changed twice. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
static struct shrinker *hold;

int hold_register(void)
{
	hold = shrinker_alloc(0, NAME);
	if (!hold)
		return -ENOMEM;
	hold->count_objects = hold_count;
	hold->scan_objects = hold_scan;
	shrinker_register(hold);
	return 0;
}

void hold_unregister(void)
{
	shrinker_free(hold);
}
#else
static struct shrinker hold = {
	.count_objects = hold_count,
	.scan_objects = hold_scan,
	.seeks = DEFAULT_SEEKS,
};

int hold_register(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 0, 0)
	return register_shrinker(&hold, NAME);
#else
	return register_shrinker(&hold);
#endif
}

void hold_unregister(void)
{
	unregister_shrinker(&hold);
}
#endif

static void take(struct page *page)
{
	list_add(&page->lru, &taken);
	taken_count++;
}

/* For when the request sleeps, has returned, or is not there: until then its thread has the list. */
unsigned long give_back(unsigned long most)
{
	unsigned long n = 0;

	while (n < most && !list_empty(&taken)) {
		struct page *page = list_last_entry(&taken, struct page, lru);

		list_del(&page->lru);
		__free_page(page);
		n++;
	}
	taken_count -= n;
	return n;
}

static void take_all(gfp_t flags)
{
	const gfp_t atomic = GFP_ATOMIC | __GFP_NOWARN | __GFP_NOMEMALLOC;
	struct page *page;

	while ((page = alloc_pages_node(0, atomic | flags, 0))) {
		take(page);
		if (!(taken_count % 1024))
			cond_resched();
	}
}

/*
 * Takes all memory, so that a request of its own goes to direct reclaim; that one is under test.
 *
 * The lowest zone is taken down past its reserve, by requests that may. So a walk that starts there
 * finds nothing, whatever comes back from the caches of other CPUs.
 */
static int request_thread(void *unused)
{
	struct page *page;

	take_all(0);
	take_all(GFP_DMA);
	for (;;) {
		held.walks = 0;
		page = alloc_pages_node(0, GFP_KERNEL | __GFP_NOWARN, 0);
		if (held.sleeps || !page)
			break;
		take(page);
	}
	held.page = page;
	held.done_ns = ktime_get_ns();
	WRITE_ONCE(held.is_done, true);
	complete_all(&held.asleep);
	complete_all(&held.done);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(HZ / 10);
	return 0;
}

/* Says whether the request's thread still has the list of what was taken. */
bool request_is_taking(void)
{
	return held.thread && !READ_ONCE(held.sleeps) && !READ_ONCE(held.is_done);
}

void request_end(void)
{
	if (held.thread) {
		/* Its thread leaves the list of what was taken alone from then on. */
		if (held.sleeps)
			give_back(ULONG_MAX);
		WRITE_ONCE(held.progress, false);
		WRITE_ONCE(held.go, true);
		kthread_stop(held.thread);
		put_task_struct(held.thread);
	}
	if (held.page)
		__free_page(held.page);
	memset(&held, 0, sizeof(held));
}

/* Starts the request, waits until it sleeps in its reclaim, and gives pages back. */
int request_begin(long spare)
{
	struct task_struct *thread;

	request_end();
	init_completion(&held.asleep);
	init_completion(&held.done);
	held.progress = true;
	thread = kthread_create(request_thread, NULL, NAME);
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	get_task_struct(thread);
	WRITE_ONCE(held.thread, thread);
	wake_up_process(thread);
	if (!wait_for_completion_timeout(&held.asleep, PATIENCE))
		return -ETIMEDOUT;
	give_back(spare);
	return held.sleeps ? 0 : -EAGAIN;
}

int request_go(void)
{
	if (!held.thread || !held.sleeps)
		return -EINVAL;
	held.entries_at_go = list_copy(held.at_go, own_list());
	held.went_ns = ktime_get_ns();
	WRITE_ONCE(held.go, true);
	return wait_for_completion_timeout(&held.done, PATIENCE) ? 0 : -ETIMEDOUT;
}
