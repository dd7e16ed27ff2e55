// SPDX-License-Identifier: MIT OR GPL-2.0
/* The load: threads that are not held, and look at the zone of what they get. */
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "lab.h"

#define THREADS 16
#define BURST 1024

struct worker {
	struct task_struct *thread;
	u64 requests, failed, misplaced;
	unsigned int held;
	struct page *page[BURST];
};
static struct worker *workers;
static int worker_count;

static int worker_thread(void *data)
{
	struct worker *worker = data;

	/* The guest's shell and its other processes go first. */
	set_user_nice(current, 15);
	while (!kthread_should_stop()) {
		struct page *page = alloc_pages(GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL, 0);

		worker->requests++;
		if (page && page_zonenum(page) > gfp_zone(GFP_KERNEL))
			worker->misplaced++;
		if (page)
			worker->page[worker->held++] = page;
		else
			worker->failed++;
		/* Demand comes in bursts. */
		if (worker->held == BURST)
			while (worker->held)
				__free_page(worker->page[--worker->held]);
		cond_resched();
	}
	while (worker->held)
		__free_page(worker->page[--worker->held]);
	return 0;
}

void load_end(void)
{
	while (worker_count)
		kthread_stop(workers[--worker_count].thread);
}

void load_free(void)
{
	load_end();
	vfree(workers);
}

int load_begin(long threads)
{
	load_end();
	if (!workers)
		workers = vzalloc(array_size(THREADS, sizeof(*workers)));
	if (!workers)
		return -ENOMEM;
	for (; worker_count < min_t(long, threads, THREADS); worker_count++) {
		struct worker *worker = &workers[worker_count];

		worker->thread = kthread_run(worker_thread, worker, NAME "/%d", worker_count);
		if (IS_ERR(worker->thread))
			return PTR_ERR(worker->thread);
	}
	return 0;
}

void load_show(struct seq_file *file)
{
	u64 requests = 0, failed = 0, misplaced = 0;
	int i;

	for (i = 0; workers && i < THREADS; i++) {
		requests += workers[i].requests;
		failed += workers[i].failed;
		misplaced += workers[i].misplaced;
	}
	seq_printf(file, "load threads=%d requests=%llu failed=%llu misplaced=%llu\n", worker_count,
		   requests, failed, misplaced);
}
