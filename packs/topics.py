"""Topics and phrasings for questions, advice, lists, comparisons and plans.

Every block is plain text: items stand on lines of their own or are parted by a bar.
"""


def items(text: str) -> list[str]:
    """Split a block of text at line ends and bars into its items."""
    return [part.strip() for line in text.splitlines() for part in line.split("|") if part.strip()]


QUESTIONS = items("""
Why is the sky blue during the day but red at sunset? | Why do leaves change color in autumn?
Why is the ocean salty? | How do airplanes stay in the air? | Why do cats purr? | What makes bread rise?
Why do we have leap years? | How far away is the Moon, and how do we know? | Why do we dream?
What happens to a star when it runs out of fuel? | Why does ice float on water? | How do bees make honey?
Why do onions make you cry when you cut them? | What would happen if the Earth stopped spinning?
How do fish breathe under water? | Why do some metals rust while others do not? | What is inside a battery?
Why do we get hiccups? | What is the difference between a virus and a bacterium? | How do plants know when to flower?
Why do our ears pop on a plane? | What causes thunder? | Why does the Moon seem to change shape?
How do birds find their way when they migrate? | Why can't we see stars in the daytime? | How old is the Earth?
Who invented the printing press and how did it change Europe? | Why were the pyramids of Egypt built?
Why did people in the Middle Ages build castles? | How did the ancient Greeks choose their leaders?
What was daily life like in ancient Rome? | Why did the Vikings travel so far from home?
How did people tell the time before clocks? | When did people first start farming, and why?
Why did the Titanic sink? | What was trench warfare like in the First World War? | How did writing begin?
Why do some countries drive on the left? | What is the longest river in Africa, and which countries does it cross?
Which countries are part of Scandinavia? | What is the capital of Australia, and why is it not Sydney?
Why is Antarctica considered a desert? | What are the seven continents, from largest to smallest?
Why does Iceland have so many volcanoes? | What language do people speak in Brazil, and why?
How many time zones does Russia have, and what does that mean for daily life? | Why is Venice sinking?
What causes a river to form a delta? | Why are there so many islands in Greece? | What is the ring of fire?
How does a touch screen know where my finger is? | What happens when I type a web address and press Enter?
Why does my phone battery get worse over time? | How does a microwave oven heat food? | What does a GPU do?
How do noise-cancelling headphones work? | What is the cloud, and where is my data actually stored?
How does a search engine decide which page comes first? | Why do computers use binary? | What is an API?
How does a refrigerator keep things cold? | What is open source software, and who pays for it?
How do self-driving cars see the road? | Why do websites ask me to accept cookies? | What is a strong password?
Why do prices go up over time? | What does a central bank do? | How do banks make money from savings accounts?
Why can't a government simply print more money? | What is the difference between debt and deficit?
Why do some countries have a higher minimum wage than others? | How does insurance work, in plain English?
Why do companies pay dividends? | What does it mean when a currency gets weaker? | What is a trade tariff?
Is it true that we need eight glasses of water a day? | Why is sleep so important for the brain?
How do vaccines teach the body to fight a disease? | What happens in the body when we exercise?
Why do we need vitamin D, and where does it come from? | Is coffee good or bad for you? | What causes allergies?
What is a healthy resting heart rate for an adult? | Why does my back hurt after sitting all day?
How does stress affect the body? | Why do doctors tell us to finish a course of antibiotics? | What is a calorie?
What is the difference between a cold and the flu? | Why do teenagers need more sleep than adults?
What is the story behind Halloween? | Why do people give gifts at weddings? | How is Lunar New Year celebrated?
What makes Italian cooking different from French cooking? | What is jazz, and where did it begin?
Why is tea so important in Japanese culture? | What is the meaning of Diwali? | Who decides what counts as art?
Why do sports fans feel so strongly about their team? | How did the modern Olympic Games begin?
What is the difference between a myth and a legend? | Why are fairy tales often so dark?
How do languages die out, and can they be saved? | What makes a novel a classic? | Why do we shake hands?
What are the three branches of government, and what does each one do? | How does a bill become a law?
What is the role of the United Nations? | Why do countries have constitutions? | What is the Red Cross?
Can animals feel emotions? | Why are coral reefs in danger? | How do trees talk to each other?
What would happen if all the bees disappeared? | Why are rainforests so important? | How do cacti store water?
What is the biggest animal that has ever lived? | Why do zebras have stripes? | How do whales sleep?
What is the difference between a frog and a toad? | Why do flamingos stand on one leg? | Do plants sleep?
Why do we yawn when others yawn? | How does memory work? | Why do songs get stuck in our heads?
What is the difference between being alone and being lonely? | Why do we forget people's names so quickly?
Why do people procrastinate? | Are left-handed people more creative? | What makes people happy?
""")

IDEAS = items("""
photosynthesis | the water cycle | gravity | natural selection | the greenhouse effect | plate tectonics
electricity | magnetism | the immune system | the nitrogen cycle | evolution | radioactive decay | friction
static electricity | sound | the human heart | digestion | the nervous system | DNA | cell division | osmosis
the periodic table | a chemical reaction | nuclear energy | a black hole | the Big Bang theory | the solar system
a solar eclipse | the carbon cycle | erosion | a food chain | fermentation | the scientific method | relativity
quantum mechanics | Newton's third law | a rainbow | a tsunami | a hurricane | an earthquake | the jet stream
artificial intelligence | machine learning | a neural network | encryption | the internet | Bluetooth | GPS
a solar panel | a wind turbine | an electric car | a 3D printer | a blockchain | a computer virus | a database
a jet engine | a bicycle gear | a camera lens | a loudspeaker | a barcode | an operating system | Wi-Fi
supply and demand | inflation | compound interest | a mortgage | the stock market | a credit score | a recession
globalization | opportunity cost | a monopoly | progressive taxation | a budget deficit | microfinance | a bond
blood pressure | cholesterol | a balanced diet | mindfulness meditation | mental health | the placebo effect
dehydration | herd immunity | first aid | type 2 diabetes | asthma | good posture | the circadian rhythm
democracy | federalism | human rights | freedom of speech | stoicism | utilitarianism | irony | a metaphor
a haiku | impressionism | classical music | a sonnet | perspective in drawing | Gothic architecture | satire
cognitive bias | peer pressure | emotional intelligence | critical thinking | the golden rule | nostalgia
""")

IDEA_PHRASES = items("""
How does {} work? | Explain {} to me in simple terms. | What exactly is {}? | Why does {} matter in everyday life?
I don't really understand {}. Could you break it down for me? | Give me a short overview of {}.
Explain {} as if I were ten years old. | I have a test on {} tomorrow. What should I know?
What are the key ideas behind {}? | Tell me about {} and give an everyday example. | Can you define {}?
Write a paragraph explaining {} for a beginner. | What do most people get wrong about {}?
How would a teacher explain {} to a class? | What are three important facts about {}?
My daughter asked me about {}. What should I tell her? | Help me understand {} with an analogy.
""")

HISTORY = items("""
the French Revolution | the fall of the Roman Empire | the Industrial Revolution | the Cold War | the Black Death
the Renaissance | the American Civil War | the Great Depression | the fall of the Berlin Wall | the space race
the Russian Revolution | the civil rights movement | the Gold Rush in California | the Great Fire of London
the Silk Road trade | the Meiji Restoration in Japan | the Irish Potato Famine | the Mongol Empire
the partition of India | the women's suffrage movement | the Spanish Civil War | the Protestant Reformation
the end of apartheid in South Africa | the Age of Exploration | the Battle of Hastings | the Ottoman Empire
the Mexican Revolution | the rise of ancient Egypt | the Enlightenment | the Boston Tea Party
""")

HISTORY_PHRASES = items("""
What led to {}? | What were the main consequences of {}? | Give me a short history of {}. | Why was {} important?
Summarize {} for a school report. | Who were the key figures in {}? | When did {} take place, and what happened?
How did {} change the lives of ordinary people? | Explain {} in about 150 words. | What can we learn from {} today?
Write a brief timeline of {}. | I'm reading a book set around the time of {}. What background do I need?
""")

PLACES = items("""
Japan | Portugal | Kenya | Iceland | Peru | Morocco | Vietnam | Canada | New Zealand | Egypt | Norway | Thailand
Mexico City | Istanbul | Lisbon | Prague | New Orleans | Cape Town | Kyoto | Edinburgh | Buenos Aires | Singapore
""")

PLACE_PHRASES = items("""
What is {} best known for? | Tell me about the climate and geography of {}. | What should a first-time visitor to {} know?
What foods is {} famous for? | Describe the culture of {} in a few sentences. | What is a typical day like in {}?
Give me some interesting facts about {}. | What is the history of {} in brief? | When is the best time to visit {}?
""")

LANDMARKS = items("""
the Amazon rainforest | the Grand Canyon | the Great Barrier Reef | the Sahara Desert | the Dead Sea | Mount Everest
the Alps | Lake Baikal | Niagara Falls | the Galápagos Islands | the Mariana Trench | the Serengeti | Mount Fuji
""")

LANDMARK_PHRASES = items("""
Where is {}, and why is it special? | How was {} formed? | What can you tell me about {}? | Why do people visit {}?
What threats does the environment of {} face? | Describe {} for a travel magazine. | What lives in or around {}?
""")

ANIMALS = items("""
octopuses | penguins | honeybees | elephants | wolves | bats | sea turtles | hummingbirds | ants | polar bears | owls
dolphins | spiders | camels | giraffes | butterflies | sharks | kangaroos | beavers | chameleons | earthworms
""")

ANIMAL_PHRASES = items("""
What do {} eat, and where do they live? | Give me five interesting facts about {}. | How do {} survive in the wild?
How do {} raise their young? | Why are {} important to their ecosystem? | Describe the life cycle of {}.
How do {} communicate with each other? | What makes {} different from other animals? | Are {} intelligent?
""")

PEOPLE = items("""
Marie Curie | Leonardo da Vinci | Isaac Newton | Cleopatra | Nelson Mandela | Ada Lovelace | Mozart | Galileo
William Shakespeare | Rosa Parks | Charles Darwin | Frida Kahlo | Julius Caesar | Florence Nightingale
Mahatma Gandhi | Confucius | Nikola Tesla | Amelia Earhart | Vincent van Gogh | Alexander the Great
""")

PERSON_PHRASES = items("""
Who was {}, and what did this person achieve? | Write a short biography of {}. | Why is {} still remembered today?
How did {} influence later generations? | What was the most important contribution {} made?
Explain the life and work of {} in one paragraph. | What challenges did {} face? | What was {} like as a person?
""")

HOWTO = items("""
clean a cast iron pan | change a flat tire | tie a tie | make scrambled eggs | start a vegetable garden | save money
remove a red wine stain | write a resume | learn to play the guitar | train a puppy | fall asleep faster
cook rice on the stove | fix a leaky faucet | build a bookshelf | prepare for a job interview | quit biting my nails
set up a home Wi-Fi network | take better photos with a phone | bake sourdough bread | grow tomatoes in pots
organize a small closet | start a podcast | paint a bedroom wall | learn a new language at home | write a cover letter
ask for a raise | plan a surprise party | pack a suitcase efficiently | run a 5K | do a proper push-up
make cold brew coffee | start composting | repot a houseplant | sharpen kitchen knives | create a monthly budget
back up my computer | speed up a slow laptop | choose a good password | sell old furniture online | make new friends
give a speech without getting nervous | deal with a difficult coworker | improve my handwriting | iron a shirt
jump-start a car | check the oil in a car | unclog a drain | get rid of fruit flies | clean an oven naturally
make a paper airplane | draw a realistic eye | knit a scarf | write a short story | start a book club | meditate
study for a final exam | take good notes in class | stop procrastinating | read faster | memorize a speech
cite sources in an essay | write a thesis statement | apply for a scholarship | choose a college major
make homemade pizza dough | poach an egg | store fresh herbs | cook a steak in a pan | brew green tea
set up a tent | build a campfire safely | read a topographic map | treat a blister on a hike | plan a road trip
find cheap flights | get over jet lag | travel with a toddler | stay safe while traveling alone | use chopsticks
teach a child to ride a bike | help a child learn to read | get a baby to sleep | limit screen time for kids
introduce a new cat to an old cat | groom a long-haired dog | set up a fish tank | attract birds to a garden
lower my electricity bill | reduce plastic waste at home | insulate a window | collect rainwater | hang a picture frame
open a savings account | pay off credit card debt | file a complaint with a company | return an online purchase
write a thank-you note | apologize to a friend | say no politely | end a conversation politely | give good feedback
run an effective meeting | manage my time better | write a clear e-mail | work from home without distractions
start a small online shop | price handmade products | name a new business | write a business plan | hire a first employee
stretch before running | lose weight in a healthy way | build muscle without a gym | eat more vegetables | drink more water
reduce eye strain at a computer | lower stress at work | treat a minor burn | stop a nosebleed | sit with good posture
choose running shoes | care for a leather jacket | wash a wool sweater | sew on a button | fold a fitted sheet
learn basic chess openings | solve a Rubik's cube | juggle three balls | start a stamp collection | take up watercolor
make a simple website | remove a virus from a computer | edit a video on a phone | merge two PDF files | clear browser cookies
""")

HOWTO_PHRASES = items("""
How do I {}? | What is the best way to {}? | Can you give me step-by-step instructions to {}? | How can I {}?
I want to {}, but I don't know where to begin. Any advice? | Explain how to {} to a complete beginner.
What mistakes do people make when they try to {}? | Write a short guide on how to {}. | What do I need in order to {}?
How long does it usually take to {}, and what are the steps? | My neighbor wants to {}. What should I tell her?
Please give me five tips to {}. | Is it hard to {}? Walk me through it. | What is an easy way to {}?
I tried to {} yesterday and it went badly. How should I do it next time? | Teach me how to {}.
""")

ADVICE = items("""
I have a job offer in another city, but my family lives here. How should I decide?
My roommate never washes the dishes. How can I bring it up without starting a fight?
I feel tired every afternoon at work. What could I change? | My garden soil is hard clay. What can I plant in it?
I am moving into my first apartment next month. What should I buy first?
My son is afraid of the dark. What can I do to help him? | I failed my driving test. How do I stay motivated?
My best friend stopped answering my messages. What should I do? | I get nervous before every exam. Any suggestions?
I want to eat less sugar but I love dessert. What do you suggest? | My cat keeps scratching the sofa. How do I stop it?
I have two hours free every evening. How could I use them well? | My laptop gets very hot. What might be wrong?
I am starting a new job on Monday. How can I make a good first impression?
My grandmother wants to learn to use a smartphone. How should I teach her?
We are expecting twenty guests for dinner on a small budget. What could we cook?
I spilled water on my keyboard. What should I do right now? | My basil plant is wilting. How can I save it?
I want to start running but my knees are weak. What do you recommend? | How do I know if I should change careers?
I am shy and have to give a toast at a wedding. Can you help me prepare?
My team misses every deadline. What can I do as their manager? | I can't concentrate when I read. What helps?
I would like to write a novel but I never get past the first page. What should I do?
My phone storage is always full. What can I delete safely? | I have a sore throat. What can I do at home?
I am visiting Paris for only one day. How should I spend it? | I always overthink small decisions. How do I stop?
I received a gift I don't like. What should I say? | My bread always comes out too dense. What am I doing wrong?
I want to adopt a dog but I live in a small flat. Is that fair to the dog?
My daughter does not like math. How can I make it more fun? | I want to volunteer. Where do I start?
I am a college student with fifty dollars a week for food. How should I shop?
How should I respond when someone criticizes my work in public? | I keep losing my keys. What could help?
My car makes a squealing noise when I brake. What could it be? | I'd like to spend less time on social media. Ideas?
""")
