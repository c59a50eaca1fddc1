/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the name of an open file is one. */
#ifndef KERNELPIPE_FILE_H
#define KERNELPIPE_FILE_H

#define MAX_DIGITS 20 /* of a 64-bit number */

/*
 * Whether a file was made without a name, with O_TMPFILE: its dentry is in no directory, and is called # and the number
 * of the inode (d_mark_tmpfile() in fs/dcache.c). A file of such a name in a directory is another's number, or it is there.
 * A global function, which the verifier reads once; it takes a number, as those of older kernels take no other pointers.
 */
__noinline int is_nameless(__u64 address)
{
	struct file *file = (struct file *)address;
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	char name[2 + MAX_DIGITS] = {};
	__u64 number = 0;

	if (BPF_CORE_READ(dentry, d_hash.pprev)) /* in a directory */
		return false;
	if (bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(dentry, d_name.name)) < 2 || name[0] != '#')
		return false;
	for (int i = 1; i <= MAX_DIGITS && name[i]; i++) {
		if (name[i] < '0' || name[i] > '9')
			return false;
		number = 10 * number + (name[i] - '0');
	}
	return number == BPF_CORE_READ(file, f_inode, i_ino);
}

#endif
