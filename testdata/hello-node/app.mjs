import { of } from "greeting";

console.log(of("kiln"));
