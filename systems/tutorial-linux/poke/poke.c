/* A character device: who writes to it makes a hypercall. */
#include <asm/kvm_para.h>
#include <linux/fs.h>
#include <linux/module.h>

/* The number that the VMM knows, or not. */
enum { POKE = 4 };

static int major;

static ssize_t poke(struct file *file, const char __user *bytes, size_t count, loff_t *at)
{
	pr_info("hi, hypercall %d: %ld\n", POKE, kvm_hypercall1(POKE, 0));
	return count;
}

static const struct file_operations operations = {.owner = THIS_MODULE, .write = poke};

static int __init enter(void)
{
	major = register_chrdev(0, "poke", &operations);
	return major < 0 ? major : 0;
}

static void __exit leave(void)
{
	unregister_chrdev(major, "poke");
}

module_init(enter);
module_exit(leave);
MODULE_DESCRIPTION("A device that makes a hypercall");
MODULE_LICENSE("Dual BSD/GPL");
