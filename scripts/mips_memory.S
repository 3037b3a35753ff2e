/* SPDX-License-Identifier: Apache-2.0
 *
 * memcpy and memset for MIPS, in place of those of Rust's compiler-builtins: compiled for size and with the options of
 * scripts/cross.sh, these take eight instructions a word, and were a fifth of all that a message takes. Here it is two and
 * a half. scripts/linker-cc.sh links this.
 *
 * For both byte orders: ulw and usw are the two instructions that load or store a word at any address.
 */
	.set	noreorder
	.text

	.globl	memcpy
	.type	memcpy, @function
	.p2align 2
memcpy:
	xor	$t0, $a0, $a1
	andi	$t0, $t0, 3
	bnez	$t0, 5f
	move	$v0, $a0
	sltiu	$t1, $a2, 8
	bnez	$t1, 5f
	/* Both can be aligned: a byte at a time until they are. */
	negu	$t0, $a0
	andi	$t0, $t0, 3
	beqz	$t0, 2f
	subu	$a2, $a2, $t0
	addu	$t0, $a0, $t0
1:	lbu	$t1, 0($a1)
	addiu	$a1, $a1, 1
	addiu	$a0, $a0, 1
	bne	$a0, $t0, 1b
	sb	$t1, -1($a0)
	/* Eight words at a time. */
2:	srl	$t0, $a2, 5
	beqz	$t0, 4f
	sll	$t0, $t0, 5
	addu	$t9, $a0, $t0
	subu	$a2, $a2, $t0
3:	lw	$t0, 0($a1)
	lw	$t1, 4($a1)
	lw	$t2, 8($a1)
	lw	$t3, 12($a1)
	lw	$t4, 16($a1)
	lw	$t5, 20($a1)
	lw	$t6, 24($a1)
	lw	$t7, 28($a1)
	addiu	$a1, $a1, 32
	sw	$t0, 0($a0)
	sw	$t1, 4($a0)
	sw	$t2, 8($a0)
	sw	$t3, 12($a0)
	sw	$t4, 16($a0)
	sw	$t5, 20($a0)
	sw	$t6, 24($a0)
	addiu	$a0, $a0, 32
	bne	$a0, $t9, 3b
	sw	$t7, -4($a0)
	/* A word at a time. */
4:	srl	$t0, $a2, 2
	beqz	$t0, 7f
	sll	$t0, $t0, 2
	addu	$t9, $a0, $t0
	subu	$a2, $a2, $t0
1:	lw	$t0, 0($a1)
	addiu	$a1, $a1, 4
	addiu	$a0, $a0, 4
	bne	$a0, $t9, 1b
	sw	$t0, -4($a0)
	b	7f
	nop
	/* They cannot, or there is little: a word at a time, wherever it lies. */
5:	srl	$t0, $a2, 2
	beqz	$t0, 7f
	sll	$t0, $t0, 2
	addu	$t9, $a0, $t0
	subu	$a2, $a2, $t0
6:	ulw	$t0, 0($a1)
	addiu	$a1, $a1, 4
	usw	$t0, 0($a0)
	addiu	$a0, $a0, 4
	bne	$a0, $t9, 6b
	nop
	/* What is left: up to three bytes. */
7:	beqz	$a2, 9f
	addu	$t9, $a0, $a2
8:	lbu	$t0, 0($a1)
	addiu	$a1, $a1, 1
	addiu	$a0, $a0, 1
	bne	$a0, $t9, 8b
	sb	$t0, -1($a0)
9:	jr	$ra
	nop
	.size	memcpy, . - memcpy

	.globl	memset
	.type	memset, @function
	.p2align 2
memset:
	sltiu	$t0, $a2, 8
	bnez	$t0, 5f
	move	$v0, $a0
	/* The byte four times. */
	andi	$a1, $a1, 255
	sll	$t0, $a1, 8
	or	$a1, $a1, $t0
	sll	$t0, $a1, 16
	or	$a1, $a1, $t0
	usw	$a1, 0($a0)
	/* From here on aligned. */
	addiu	$t0, $a0, 4
	ins	$t0, $zero, 0, 2
	addu	$t1, $a0, $a2
	subu	$a2, $t1, $t0
	move	$a0, $t0
	srl	$t0, $a2, 5
	beqz	$t0, 3f
	sll	$t0, $t0, 5
	addu	$t9, $a0, $t0
	subu	$a2, $a2, $t0
2:	sw	$a1, 0($a0)
	sw	$a1, 4($a0)
	sw	$a1, 8($a0)
	sw	$a1, 12($a0)
	sw	$a1, 16($a0)
	sw	$a1, 20($a0)
	sw	$a1, 24($a0)
	addiu	$a0, $a0, 32
	bne	$a0, $t9, 2b
	sw	$a1, -4($a0)
3:	srl	$t0, $a2, 2
	beqz	$t0, 5f
	sll	$t0, $t0, 2
	addu	$t9, $a0, $t0
	subu	$a2, $a2, $t0
4:	addiu	$a0, $a0, 4
	bne	$a0, $t9, 4b
	sw	$a1, -4($a0)
5:	beqz	$a2, 7f
	addu	$t9, $a0, $a2
6:	addiu	$a0, $a0, 1
	bne	$a0, $t9, 6b
	sb	$a1, -1($a0)
7:	jr	$ra
	nop
	.size	memset, . - memset
