"""Other ways to say what is wrong: guesses, guards of frameworks, and rules of other tools written anew."""
