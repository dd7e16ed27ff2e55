// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * zonelist_lab: holds one allocation of a running kernel inside its direct reclaim, and tells what
 * the allocation does after its zonelist was rewritten.
 *
 * How the request is held: a shrinker sleeps in the direct reclaim of that one thread, as a shrinker
 * does that waits for I/O. No CPU stops, nothing is patched, and memory can be onlined and offlined
 * meanwhile. Before 6.7 shrinker_rwsem is held for reading all the while, as it is when any shrinker
 * sleeps: who registers or frees another shrinker (a mount, say) waits for as long.
 *
 * How the request is watched: a return probe on get_page_from_freelist() logs the thread's walks. A
 * probe on out_of_memory() counts its calls. That a page is misplaced is told by no probe, but by
 * the zone of the page.
 *
 * One file, /proc/zonelist_lab, takes a command:
 *
 *   request N   take all memory, ask for a page, wait until that request sleeps, give N pages back
 *   progress N  have reclaim report progress to the request (1), or not (0)
 *   go          let the request go on, and wait until it returns
 *   give        give back the memory that was taken; the request's page stays
 *   end         free the page, too
 *   load N      have N threads allocate, not held; 0 ends them
 *
 * Read, it tells the state: lines of a word and pairs of key=value.
 *
 * This is the project's own source, "Dual MIT/GPL".
 */
#include <linux/gfp.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/uaccess.h>
#include <linux/utsname.h>

#include "lab.h"

int plant;
module_param(plant, int, 0400);
MODULE_PARM_DESC(plant, "1: read the allocator's private data at a wrong place, to be refused");
int most_rounds = 2000;
module_param(most_rounds, int, 0600);
MODULE_PARM_DESC(most_rounds, "rounds after which reclaim reports no more progress");

static DEFINE_MUTEX(command_lock);

static void entries_show(struct seq_file *file, const char *when, const struct entry *entry, int n)
{
	int i;

	for (i = 0; i < n; i++)
		seq_printf(file, "entry when=%s at=%d zone=%s index=%d node=%d free=%lu\n", when, i,
			   entry[i].zone, entry[i].index, entry[i].node, entry[i].free);
}

static int state_show(struct seq_file *file, void *unused)
{
	unsigned int i;

	mutex_lock(&command_lock);
	seq_printf(file, "kernel release=%s highest=%d\n", utsname()->release, gfp_zone(GFP_KERNEL));
	seq_printf(file, "request asleep=%d go=%d done=%d rounds=%d rounds_after=%d walks=%u stale=%u oom=%d oom_fresh=%d us=%llu\n",
		   held.sleeps, held.go, held.is_done, held.rounds, held.rounds_after,
		   held.walks, held.stale, held.oom, held.oom_fresh,
		   held.is_done && held.went_ns ? (held.done_ns - held.went_ns) / 1000 : 0);
	entries_show(file, "before", held.before, held.entries_before);
	entries_show(file, "go", held.at_go, held.entries_at_go);
	for (i = 0; i < min(held.walks, (unsigned int)WALKS); i++) {
		const struct walk *walk = &held.log[i];

		seq_printf(file, "walk n=%u after=%d start=%d zone=%s index=%d highest=%d fresh=%d got=%s\n",
			   walk->n, walk->after, walk->start, walk->zone, walk->index, walk->highest,
			   walk->fresh, walk->got);
	}
	if (held.is_done && held.page)
		seq_printf(file, "page zone=%s index=%d node=%d pfn=%lu\n",
			   page_zone(held.page)->name, page_zonenum(held.page),
			   page_to_nid(held.page), page_to_pfn(held.page));
	load_show(file);
	mutex_unlock(&command_lock);
	return 0;
}

static int state_open(struct inode *inode, struct file *file)
{
	return single_open(file, state_show, NULL);
}

static int command(char *word)
{
	long n;

	if (sscanf(word, "request %ld", &n) == 1)
		return request_begin(n);
	if (sscanf(word, "progress %ld", &n) == 1) {
		WRITE_ONCE(held.progress, n);
		return 0;
	}
	if (!strcmp(word, "go"))
		return request_go();
	if (!strcmp(word, "give")) {
		if (request_is_taking())
			return -EBUSY;
		give_back(ULONG_MAX);
		return 0;
	}
	if (!strcmp(word, "end")) {
		request_end();
		give_back(ULONG_MAX);
		return 0;
	}
	if (sscanf(word, "load %ld", &n) == 1)
		return load_begin(n);
	return -EINVAL;
}

static ssize_t command_write(struct file *file, const char __user *from, size_t size, loff_t *at)
{
	char word[32];
	int error;

	if (size >= sizeof(word))
		return -EINVAL;
	if (copy_from_user(word, from, size))
		return -EFAULT;
	word[size] = 0;
	mutex_lock(&command_lock);
	error = command(strim(word));
	mutex_unlock(&command_lock);
	return error ? error : size;
}

static const struct proc_ops file_ops = {
	.proc_open = state_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
	.proc_write = command_write,
};

static int __init lab_init(void)
{
	int error = watch_begin();

	if (error)
		return error;
	error = hold_register();
	if (!error && !proc_create(NAME, 0600, NULL, &file_ops)) {
		hold_unregister();
		error = -ENOMEM;
	}
	if (error)
		watch_end();
	return error;
}

static void __exit lab_exit(void)
{
	remove_proc_entry(NAME, NULL);
	load_free();
	request_end();
	hold_unregister();
	watch_end();
	give_back(ULONG_MAX);
}

module_init(lab_init);
module_exit(lab_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("holds one allocation in its direct reclaim while its zonelist is rewritten");
