/* A module that makes a hypercall when it is loaded, and says what came of it. */
#include <asm/kvm_para.h>
#include <linux/init.h>
#include <linux/module.h>

static unsigned int number;
module_param(number, uint, 0444);

static int __init make(void)
{
	pr_info("hypercall %u: %ld\n", number, kvm_hypercall0(number));
	return 0;
}

static void __exit leave(void)
{
}

module_init(make);
module_exit(leave);
MODULE_DESCRIPTION("Makes a hypercall");
MODULE_LICENSE("Dual BSD/GPL");
