export const of = (name) => `Hello from ${name}!`;
