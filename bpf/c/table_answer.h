/* SPDX-License-Identifier: Apache-2.0 */
/* What user space asks the process table, and the answers. */
#ifndef KERNELPIPE_TABLE_ANSWER_H
#define KERNELPIPE_TABLE_ANSWER_H

/* What is asked, and where the answers go. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KP_QUESTIONS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kp_question);
} questions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KP_QUESTIONS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct kp_answer);
} answers SEC(".maps");

/*
 * Puts the program that was asked for in the place of the one that the process runs. That it is still there after the copy
 * says that the copy is whole, for none is put in a second time.
 */
static __always_inline enum kp_answered answer_program(struct kp_program *program, const struct kp_program_id *id)
{
	__u32 ahead = (id->exec_number + 65535 - program->exec_number) % 65535;
	struct kp_program *kept;

	if (!id->exec_number || !ahead)
		return KP_ANSWERED_YES;
	kept = bpf_map_lookup_elem(&programs, id);
	if (!kept && ahead < 32768) /* numbers come round: one that is ahead by more than half of them is behind */
		return KP_ANSWERED_NO;
	if (kept) {
		copy_program(program, kept);
		BARRIER();
		if (bpf_map_lookup_elem(&programs, id) == kept)
			return KP_ANSWERED_YES;
	}
	program->exec_number = id->exec_number;
	program->flags = KP_PROGRAM_FORGOTTEN;
	program->base = 0;
	program->path[0] = 0;
	return KP_ANSWERED_YES;
}

/* Answers question number index. A function of its own, so that the verifier reads it once and not for each step. */
__noinline int answer(__u32 index)
{
	struct kp_question *question = bpf_map_lookup_elem(&questions, &index);
	struct kp_answer *answer = bpf_map_lookup_elem(&answers, &index);
	struct kp_process_entry *entry;
	struct kp_program_id program;
	struct kp_arguments *kept;
	struct kp_process_id id;
	__u32 version;

	if (!question || !answer)
		return 0;
	program = question->id;
	id.start_ns = program.start_ns;
	id.tgid = program.tgid;
	question->answered = KP_ANSWERED_NO;
	entry = bpf_map_lookup_elem(&processes, &id);
	if (!entry)
		return 0;
	question->answered = KP_ANSWERED_CHANGING;
	version = entry->version;
	BARRIER();
	bpf_probe_read_kernel(&answer->process, sizeof(answer->process), entry); /* it can't fail: it reads a map */
	BARRIER();
	/* It may change meanwhile, or go, and another takes its place. */
	if (version % 2 || entry->version != version || answer->process.version != version)
		return 0;
	if (answer->process.id.start_ns != id.start_ns || answer->process.id.tgid != id.tgid || answer->process.start_again_ns != id.start_ns)
		return 0;
	answer->arguments.start_ns = 0;
	if (state.with_arguments) {
		kept = bpf_map_lookup_elem(&arguments, &id);
		if (kept)
			bpf_probe_read_kernel(&answer->arguments, sizeof(answer->arguments), kept);
	}
	question->answered = answer_program(&answer->process.program, &program);
	return 0;
}

#endif
