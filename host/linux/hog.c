// SPDX-License-Identifier: MIT OR GPL-2.0
/* hog MIB: maps so much anonymous memory, writes to each page, unmaps it, and begins again. */
#include <stdlib.h>
#include <sys/mman.h>

int main(int count, char **words)
{
	size_t size = count > 1 ? strtoul(words[1], NULL, 10) << 20 : 0;

	for (;;) {
		char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (memory == MAP_FAILED)
			return 1;
		for (size_t at = 0; at < size; at += 4096)
			((volatile char *)memory)[at] = 1;
		munmap(memory, size);
	}
}
