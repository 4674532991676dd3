import greeting

print(greeting.of("kiln"))
