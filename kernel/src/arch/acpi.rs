//! ACPI's static tables, as far as the kernel uses them: MADT, SRAT, SLIT, FADT.
