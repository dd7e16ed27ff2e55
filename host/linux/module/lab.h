/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the parts of the module share. Each part's functions are explained where they are defined.
 */
#ifndef ZONELIST_LAB_H
#define ZONELIST_LAB_H

#include <linux/completion.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/sched.h>
#include <linux/seq_file.h>

#define NAME "zonelist_lab"

/* Walks that are kept: the first ones, and the last. Entries of a list that are kept. */
#define WALKS 32
#define ENTRIES 16

struct entry {
	const char *zone;
	int index, node;
	unsigned long free;
};

/* One walk: where it started, whether a walk from the first entry would serve, what it got. */
struct walk {
	unsigned int n;
	int start, index, highest;
	bool after, fresh, has_page;
	const char *zone, *got;
};

/* The request under test. Its thread writes all of it but go, progress and the list at go. */
struct held_request {
	struct task_struct *thread;
	struct completion asleep, done;
	bool sleeps, go, progress, is_done;
	int rounds, rounds_after, oom, oom_fresh;
	unsigned int walks, stale;
	struct walk log[WALKS];
	struct page *page;
	/* The list when the request fell asleep, and when it was let go. */
	struct entry before[ENTRIES], at_go[ENTRIES];
	int entries_before, entries_at_go;
	u64 went_ns, done_ns;
};
extern struct held_request held;

extern int plant, most_rounds;

/* watch.c */
int list_copy(struct entry *to, const struct zonelist *list);
struct zonelist *own_list(void);
int watch_begin(void);
void watch_end(void);

/* hold.c */
int hold_register(void);
void hold_unregister(void);
int request_begin(long spare);
int request_go(void);
bool request_is_taking(void);
void request_end(void);
unsigned long give_back(unsigned long most);

/* load.c */
int load_begin(long threads);
void load_end(void);
void load_free(void);
void load_show(struct seq_file *file);

#endif
