#pragma once
/* The enumeration is there with VT-x only, the macro that uses it always. */
#ifdef CONFIG_VTX
typedef enum {
    SEL4_VMENTER_CALL_EIP_MR,
    SEL4_VMENTER_FAULT_EAX,
    SEL4_VMENTER_FAULT_EBX,
#ifdef CONFIG_X86_64_VTX_64BIT_GUESTS
    SEL4_VMENTER_FAULT_R8,
    SEL4_VMENTER_FAULT_R9,
#endif
    SEL4_VMENTER_NUM_FAULT_MSGS,
} kernel_fault_context_t;
#endif
#define SEL4_VMENTER_RESULT_FAULT_LEN SEL4_VMENTER_NUM_FAULT_MSGS
