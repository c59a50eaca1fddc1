/* SPDX-License-Identifier: Apache-2.0 */
/* Where each architecture has the number, the arguments and the place of a system call. */
#ifndef KERNELPIPE_REGISTERS_H
#define KERNELPIPE_REGISTERS_H

#if defined(__TARGET_ARCH_x86)
#define SYSCALL_NUMBER(regs) ((__u32)(regs)->orig_ax)
#define SYSCALL_ARG0(regs) ((regs)->di)
#define SYSCALL_ARG1(regs) ((regs)->si)
#define SYSCALL_ARG2(regs) ((regs)->dx)
#define SYSCALL_ARG3(regs) ((regs)->r10)
#define SYSCALL_ARG4(regs) ((regs)->r8)
#define SYSCALL_ARG5(regs) ((regs)->r9)
#define ROLLED_BACK(regs) ((long)(regs)->orig_ax) /* syscall_rollback(), arch/x86/include/asm/syscall.h */
#define X32_SYSCALL(number) ((number) >> 30 == 1) /* __X32_SYSCALL_BIT, and not -1 */
#define SYSCALL_PLACE(regs) ((regs)->ip)
#define RESTART_SYSCALL 219
#define EXECVE 59
#define COMPAT_EXECVE 11
#define COMPAT_FIELD status
#define COMPAT_BIT 2 /* TS_COMPAT, arch/x86/include/asm/thread_info.h */
#elif defined(__TARGET_ARCH_arm64)
#define SYSCALL_NUMBER(regs) ((__u32)(regs)->syscallno)
#define SYSCALL_ARG0(regs) ((regs)->orig_x0)
#define SYSCALL_ARG1(regs) ((regs)->regs[1])
#define SYSCALL_ARG2(regs) ((regs)->regs[2])
#define SYSCALL_ARG3(regs) ((regs)->regs[3])
#define SYSCALL_ARG4(regs) ((regs)->regs[4])
#define SYSCALL_ARG5(regs) ((regs)->regs[5])
#define ROLLED_BACK(regs) ((long)(regs)->orig_x0) /* syscall_rollback(), arch/arm64/include/asm/syscall.h */
#define X32_SYSCALL(number) false
#define SYSCALL_PLACE(regs) ((regs)->pc)
#define RESTART_SYSCALL 128
#define COMPAT_FIELD flags
#define COMPAT_BIT (1 << 22) /* TIF_32BIT, arch/arm64/include/asm/thread_info.h */
#endif

#endif
