# The page is built into control/dashboard.c by .incbin, which the compiler's dependency files miss.
$(BUILD)/obj/control/dashboard.o: control/dashboard/index.html
