/* SPDX-License-Identifier: Apache-2.0 */
/* The programs that processes run: their paths, and those that they ran before. */
#ifndef KERNELPIPE_TABLE_PROGRAM_H
#define KERNELPIPE_TABLE_PROGRAM_H

/* Throws out the program that was replaced first. */
static __always_inline void evict_program(void)
{
	struct kp_program_id id = {};

	if (bpf_map_pop_elem(&replaced, &id))
		return;
	if (!bpf_map_delete_elem(&programs, &id))
		count(KP_TABLE_PROGRAMS_EVICTED);
}

/* Keeps a program that its process is about to replace. */
static __always_inline void keep_program(const struct kp_process_id *process, const struct kp_program *program)
{
	struct kp_program_id id = {
		.start_ns = process->start_ns,
		.tgid = process->tgid,
		.exec_number = program->exec_number,
	};
	int error = bpf_map_update_elem(&programs, &id, program, BPF_NOEXIST);

	for (int i = 0; i < EVICTION_TRIES && error == -E2BIG; i++) {
		evict_program();
		error = bpf_map_update_elem(&programs, &id, program, BPF_NOEXIST);
	}
	if (error) { /* its number has come round where it is there */
		if (error != -EEXIST)
			count(KP_TABLE_PROGRAMS_MISSED);
		return;
	}
	count(KP_TABLE_PROGRAMS);
	if (bpf_map_push_elem(&replaced, &id, BPF_ANY) && !bpf_map_delete_elem(&programs, &id))
		count(KP_TABLE_PROGRAMS_EVICTED); /* nobody would ever throw it out */
}

/*
 * One step up from a file's mount, or above it: on to the directory that this is mounted on, or to the next component.
 * Says whether there may be another. A function of its own, with what it goes on from in memory, so that the verifier
 * reads it once and not for each step.
 */
__noinline int step_above(__u32 user)
{
	struct scratch *scratch = scratch_of(user);
	struct dentry *dentry, *parent;
	struct mount *mount, *above;

	if (!scratch)
		return 0;
	mount = (struct mount *)scratch->path.mount;
	dentry = (struct dentry *)scratch->path.dentry;
	if (!dentry) {
		above = BPF_CORE_READ(mount, mnt_parent);
		if (above == mount)
			return 0;
		dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		mount = above;
	} else {
		parent = BPF_CORE_READ(dentry, d_parent);
		if (!parent || parent == dentry) /* of a file system that is unmounted by now */
			return 0;
		if (!prepend(&scratch->path, BPF_CORE_READ(dentry, d_name.name), BPF_CORE_READ(dentry, d_name.len)))
			return 0;
		dentry = parent;
	}
	scratch->path.mount = (__u64)mount;
	scratch->path.dentry = dentry == BPF_CORE_READ(mount, mnt.mnt_root) ? 0 : (__u64)dentry;
	return 1;
}

/* Goes on with the path of a file above the root of its mount, which is at address vfsmount. */
__noinline int path_above(__u32 user, __u64 vfsmount)
{
	struct scratch *scratch = scratch_of(user);

	if (!scratch)
		return 0;
	scratch->path.mount = vfsmount - bpf_core_field_offset(struct mount, mnt);
	scratch->path.dentry = 0;
	for (int i = 0; i < MAX_COMPONENTS; i++)
		if (!step_above(user))
			return 0;
	scratch->path.cut = true;
	return 0;
}

/*
 * The path of a file as the processes of its mount namespace see it, in scratch->path, which is begun. Something that is
 * in no directory, such as a memfd, has a name only. Within the mount of the file, pointers have types that the kernel
 * knows, so that to read them is a load and not the call of a helper.
 */
static __always_inline void file_path(__u32 user, struct scratch *scratch, struct file *file)
{
	struct vfsmount *vfsmount = file->f_path.mnt;
	struct dentry *dentry = file->f_path.dentry, *root;
	struct path_text *to = &scratch->path;

	if (!vfsmount || !dentry)
		return;
	root = vfsmount->mnt_root;
	for (int i = 0; i < MAX_COMPONENTS; i++) {
		struct dentry *parent = dentry->d_parent;

		if (!parent || !prepend(to, dentry->d_name.name, dentry->d_name.len))
			return;
		if (dentry == parent) { /* no directory */
			to->at = to->base;
			return;
		}
		if (parent == root) {
			path_above(user, (__u64)BPF_CORE_READ(file, f_path.mnt)); /* vfsmount, as a number */
			return;
		}
		dentry = parent;
	}
	to->cut = true;
}

/* Describes the program that a task runs. */
static __always_inline void set_program(struct kp_program *program, __u32 user, struct scratch *scratch,
					struct task_struct *task)
{
	struct path_text *path = &scratch->path;
	struct mm_struct *mm = task->mm;
	struct file *file = mm ? mm->exe_file : NULL;

	program->exec_number = exec_number_of(task);
	program->flags = 0;
	begin_path(path);
	if (file)
		file_path(user, scratch, file);
	else if (task->flags & PF_KTHREAD)
		program->flags |= KP_PROGRAM_KERNEL;
	if (file && path->text[path->base & (KP_PATH_LEN - 1)] == '#' && is_nameless((__u64)BPF_CORE_READ(mm, exe_file))) {
		program->flags |= KP_PROGRAM_NAMELESS;
		begin_path(path);
	}
	copy_path(program->path, path);
	program->base = path->base - path->at;
	if (path->cut)
		program->flags |= KP_PROGRAM_PATH_CUT;
	if (path->base >= KP_PATH_LEN - 1 && !(program->flags & (KP_PROGRAM_KERNEL | KP_PROGRAM_NAMELESS)))
		program->flags |= KP_PROGRAM_UNREADABLE;
}

static __always_inline void copy_program(struct kp_program *to, const struct kp_program *from)
{
	bpf_probe_read_kernel(to, sizeof(*to), from); /* it can't fail: it reads a map */
}

#endif
